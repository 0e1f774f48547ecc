"""Owns the mixture: which kinds of talk a training run sees, how often and how long."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from . import frames
from .citing import citing, placing
from .condensing import condensing
from .following import following
from .jsontalk import jsontalk
from .lexicon import Words
from .ranking import ranking
from .reading import brief, reading, refining
from .reasoning import reasoning
from .smalltalk import smalltalk
from .summary import summing_up
from .talk import Conversation
from .telling import listing, telling
from .tooltalk import drill, tooltalk

Maker = Callable[[Words, int], Conversation]
TOKENS_PER_FACT = {"en": 22, "zh": 15}
LARGEST = {"en": 1.15, "zh": 1.35}
# Of long documents, those that say little: five sentences to pass over for one to read.
SPARSE = 0.3
# Of long documents, those that leave little room behind them and are asked first of what stands in
# their first quarter: drawn evenly, hardly an answer is as far away as the window is long.
FROM_AFAR = 0.3
FILLED = (0.75, 0.96)
TRIES = 6
# Of questions about a document, those that ask who or what something is told of.
TURNED = 0.12
CHARACTERS_PER_TOKEN = {"en": 2.1, "zh": 0.97}


def _facts(words: Words, length: int) -> int:
    most = (length - 30) / TOKENS_PER_FACT[words.lang]
    least, largest = (0.5, 0.95) if length < 2000 else (0.7, LARGEST[words.lang])
    return max(1, round(most * words.rng.uniform(least, largest)))


def _fills(talk: Conversation, lang: str, length: int) -> bool:
    used = len(talk.document) / CHARACTERS_PER_TOKEN[lang] / length
    return FILLED[0] <= used <= FILLED[1]


def _reading(unknown: float) -> Maker:
    def once(words: Words, length: int, first: float) -> Conversation:
        many = words.rng.randint(5, 14) if length < 400 else words.rng.randint(10, 36)
        many += words.rng.randint(8, 24) if length > 2000 else 0
        many += words.rng.randint(20, 50) if length > 8000 else 0
        rivals = unknown > 0.1 and words.chance(0.3)
        own = frames.frame(words) if unknown > 0.1 and words.chance(0.3) else ""
        facts, filling = _facts(words, length), None
        if length >= 1024 and words.chance(SPARSE):
            facts, filling = max(1, facts // 3), 5.0
        return reading(words, facts, many, unknown, own, rivals, filling, first, TURNED)

    def make(words: Words, length: int) -> Conversation:
        if length < 1024 or not words.chance(FROM_AFAR):
            return once(words, length, 1.0)
        talk = once(words, length, 0.25)
        for _ in range(TRIES):
            if _fills(talk, words.lang, length):
                break
            talk = once(words, length, 0.25)
        return talk

    return make


def _citing(words: Words, length: int) -> Conversation:
    parts = words.rng.randint(2, max(2, min(8, length // 60)))
    return citing(words, max(parts, _facts(words, length)), parts, 10, 0.25)


MAKERS: dict[str, Maker] = {
    "reading": _reading(0.25),
    "easy reading": _reading(0.07),
    "brief": lambda w, _: brief(w),
    "refining": lambda w, n: refining(w, _facts(w, n - 100)),
    "citing": _citing,
    "placing": placing,
    "telling": lambda w, n: telling(w, w.rng.randint(2, max(2, min(8, n // 45)))),
    "listing": lambda w, n: listing(w, max(2, min(40, n // 22))),
    "smalltalk": lambda w, _: smalltalk(w),
    "tools": tooltalk,
    "drill": drill,
    "json": lambda w, n: jsontalk(w, max(2, n // 50)),
    "following": lambda w, n: following(w, max(1, _facts(w, n - 40))),
    "reasoning": lambda w, n: reasoning(w, max(3, min(10, n // 40))),
    "ranking": ranking,
    "condensing": lambda w, _: condensing(w),
    "summary": lambda w, _: summing_up(w),
}
# Shares of talks. A reading talk is among the longest, so its share of tokens is higher.
EARLY = {
    "easy reading": 42,
    "listing": 26,
    "telling": 9,
    "smalltalk": 5,
    "json": 5,
    "reasoning": 6,
    "following": 5,
    "condensing": 2,
}
MIXED = {
    "reading": 72,
    "brief": 4,
    "refining": 1,
    "citing": 8,
    "placing": 4,
    "telling": 5,
    "listing": 1,
    "smalltalk": 2,
    "tools": 10,
    "drill": 14,
    "json": 6,
    "following": 5,
    "reasoning": 10,
    "ranking": 2,
    "condensing": 2,
    "summary": 7,
}


def conversations(seed: int, length: int, early: bool) -> Iterator[Conversation]:
    """Yields conversations of up to about `length` tokens; `early` favours plain look-up."""
    rng = random.Random(seed)
    makers = {lang: Words(rng, lang) for lang in ("en", "zh")}
    shares = EARLY if early else MIXED
    names, weights = list(shares), list(shares.values())
    while True:
        words = makers["en" if rng.random() < 0.56 else "zh"]
        size = length if length <= 128 else rng.choice([length, length, length // 2])
        name = rng.choices(names, weights)[0]
        yield MAKERS[name](words, size)
