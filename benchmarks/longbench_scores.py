"""Scores of LongBench's kinds, from F1 to likeness of code. They know no model.

Each compares an answer with one of the right ones and gives 0 to 1. Chinese is cut into words by
jieba where it is installed, as LongBench does, else into characters; ``SEGMENTED_BY`` says which.
ROUGE-L is the F-measure of the longest common subsequence of the whole answers.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

SEGMENTED_BY: Final = "jieba" if importlib.util.find_spec("jieba") else "characters"
Score = Callable[[str, str, Sequence[str]], float]


def english(text: str) -> list[str]:
    """Words in lower case, without punctuation and articles."""
    kept = "".join(c for c in text.lower() if not unicodedata.category(c).startswith(("P", "S")))
    return [word for word in kept.split() if word not in ("a", "an", "the")]


def chinese(text: str) -> list[str]:
    """Words or characters, without punctuation and spaces; words of other scripts stay whole."""
    if SEGMENTED_BY == "jieba":
        import jieba

        found = list(jieba.cut(text))
    else:
        found = re.findall(r"[a-z0-9]+|.", text.lower(), re.DOTALL)
    bare = ("".join(c for c in piece.lower() if c.isalnum()) for piece in found)
    return [piece for piece in bare if piece]


def pieces(text: str) -> list[str]:
    """Cut a text by the language it is in."""
    return chinese(text) if re.search(r"[\u4e00-\u9fff]", text) else english(text)


def f1(answer: str, right: str, _: Sequence[str] = ()) -> float:
    """Words the two share: the harmonic mean of precision and recall."""
    said, wanted = Counter(pieces(answer)), Counter(pieces(right))
    return _harmonic((said & wanted).total(), said.total(), wanted.total())


def rouge_l(answer: str, right: str, _: Sequence[str] = ()) -> float:
    """The longest common subsequence of words, as an F-measure."""
    said, wanted = pieces(answer), pieces(right)
    row = [0] * (len(wanted) + 1)
    for word in said:
        diagonal = 0
        for place, other in enumerate(wanted, start=1):
            above = row[place]
            row[place] = diagonal + 1 if word == other else max(above, row[place - 1])
            diagonal = above
    return _harmonic(row[-1], len(said), len(wanted))


def exact(answer: str, right: str, _: Sequence[str] = ()) -> float:
    """Whether the two are the same, but for case, punctuation and articles."""
    return float(pieces(answer) == pieces(right))


def classes(answer: str, right: str, names: Sequence[str]) -> float:
    """Whether the answer names the right class, shared with the wrong ones it names too."""
    named = [name for name in names if name in answer]
    # A class whose name is a part of the right one's is not meant by it.
    named = [name for name in named if name == right or name not in right]
    return 1 / len(named) if right in named else 0.0


def numbers(answer: str, right: str, _: Sequence[str] = ()) -> float:
    """The share of the numbers in the answer that are the right one's first number."""
    wanted = re.search(r"\d+", right)
    said = re.findall(r"\d+", answer)
    return said.count(wanted[0]) / len(said) if wanted and said else 0.0


def code(answer: str, right: str, _: Sequence[str] = ()) -> float:
    """How alike the answer's first line of code and the right one are."""
    lines = [line for line in answer.lstrip("\n").split("\n") if not re.search("[`#]|//", line)]
    return difflib.SequenceMatcher(None, lines[0] if lines else "", right).ratio()


def _harmonic(shared: float, said: float, wanted: float) -> float:
    return 2 * shared / (said + wanted) if shared else 0.0
