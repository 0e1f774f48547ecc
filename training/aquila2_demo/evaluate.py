"""Owns the evaluation: one command measures an exported checkpoint and prints the whole table."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import torch

from . import prompts, replies
from .answerer import Answer, Answerer
from .measures import DEPTHS, Item, abilities, items, needles, prose
from .reading import reading

NEEDLE_LENGTHS = (256, 512, 1024, 2048, 3900, 8000, 12000, 16000)


@dataclass(frozen=True)
class Score:
    """Shares of one measurement."""

    name: str
    lang: str
    n: int
    right: float
    stopped: float
    refused: float
    tokens: int

    @property
    def error(self) -> float:
        """The standard error of the share that is right."""
        return math.sqrt(max(0.0, self.right * (1 - self.right)) / max(1, self.n))


def tally(name: str, lang: str, asked: Sequence[Item], given: Sequence[Answer]) -> Score:
    """Counts the answers to some items."""
    n = max(1, len(asked))
    right = sum(item.right(a.text) for item, a in zip(asked, given, strict=True))
    refused = sum(a.text in replies.UNKNOWN.values() for a in given)
    stopped = sum(a.stopped for a in given)
    length = sum(a.tokens for a in given) // n
    return Score(name, lang, len(asked), right / n, stopped / n, refused / n, length)


def measure(
    model: Answerer, name: str, lang: str, asked: Iterable[Item], show: bool = False
) -> Score:
    """Asks and counts; prompts the context has no room for are left out."""
    fitting = [i for i in asked if model.length(i.prompt) < model.positions - 40]
    given = model.answers([item.prompt for item in fitting])
    for item, answer in zip(fitting, given, strict=True):
        if show and not item.right(answer.text):
            print(f"   {item.prompt[-90:]!r} -> {answer.text!r}, accepted {item.accepted}")
    return tally(name, lang, fitting, given)


def held_out(model: Answerer, lang: str, count: int, facts: int = 9, seed: int = 4242) -> Score:
    """Measures extraction alone."""
    asked = items(lang, count, lambda w: reading(w, facts, 3, 0.0), seed=seed)
    return measure(model, "extraction", lang, asked)


def everything(model: Answerer, lang: str, count: int, show: bool, only: str) -> Iterable[Score]:
    """Measures one language, one ability after the other."""
    todo: dict[str, Iterable[Item]] = {}
    for name, frame in {"plain": "{c}\n\n{q}", "stuff prompt": prompts.LANGCHAIN_STUFF}.items():
        todo[f"hand-written pages, {name}"] = prose(lang, frame)
    for name, (talk, keep) in abilities(lang, model.positions).items():
        todo[name] = items(lang, count, talk, keep, seed=crc32(name.encode()))
    todo["wordings never seen"] = items(lang, count, lambda w: reading(w, 9, 3, 0.0), odd=True)
    few = max(4, count // 10)
    for length in (n for n in NEEDLE_LENGTHS if n < model.positions):
        for depth in DEPTHS:
            found = needles(lang, length, depth, few, model.length)
            todo[f"needle, {length} tokens, depth {depth}"] = found
    for name, asked in todo.items():
        if only in name:
            yield measure(model, name, lang, asked, show)


def main() -> None:
    """Measures everything; prints a line for each measurement and, at the end, the least stops."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("aquila2_runtime/demo"))
    parser.add_argument("--count", type=int, default=100, help="questions a measurement")
    parser.add_argument("--lang", choices=["en", "zh"], action="append")
    parser.add_argument("--only", default="", help="only measurements whose name has this in it")
    parser.add_argument("--show", action="store_true", help="print the wrong answers")
    parser.add_argument("--device", default="cpu", help="where the model runs")
    parser.add_argument("--json", action="store_true", help="print JSON lines, not a table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, scores = Answerer(args.model, args.device), list[Score]()
    for lang in args.lang or ["en", "zh"]:
        for score in everything(model, lang, args.count, args.show, args.only):
            scores.append(score)
            if args.json:
                print(json.dumps(asdict(score)), flush=True)
            else:
                print(_line(score), flush=True)
    asked = sum(s.n for s in scores)
    ended = sum(s.n * s.stopped for s in scores) / max(1, asked)
    print(f"{asked} answers, {ended:.4f} of them ended by themselves")


def _line(s: Score) -> str:
    shares = f"{s.right:6.3f} ±{s.error:.3f}  stops {s.stopped:.3f}  refused {s.refused:.3f}"
    return f"{s.lang} {s.name:40} n={s.n:<4} {s.tokens:5} tokens  {shares}"


if __name__ == "__main__":
    main()
