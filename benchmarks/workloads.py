"""Workloads: which prompts at once, and how many new tokens each. They know no engine."""

from __future__ import annotations

import dataclasses
import random

# Ids of plain pairs of bytes in the benchmark checkpoints; none of them ends an answer.
FIRST_ID = 300
DOCUMENT = 4_096


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """Requests made at once.

    Attributes:
        prompts: Token ids.
        new_tokens: Of each request; exactly so many are made.
    """

    prompts: list[list[int]]
    new_tokens: list[int]


def figure(name: str, vocab_size: int, seed: int, *, scale: int = 1) -> list[Workload]:
    """The workloads of a figure, one after the other; the last one is what is measured.

    Args:
        name: "single", "x8", "x32", "prefill" or "second".
        vocab_size: Of the checkpoint.
        seed: Another one gives other prompts, so that no engine knows them already.
        scale: Divides the tokens of "single"; large models need fewer for a steady figure.
    """
    lengths = random.Random(0)  # the same shapes in every round
    ids = random.Random(f"{name} {seed}")

    def prompt(length: int) -> list[int]:
        return [ids.randrange(FIRST_ID, vocab_size - 100) for _ in range(length)]

    if name == "single":
        return [Workload([prompt(64)], [128 // scale])]
    if name in {"x8", "x32"}:
        count = int(name[1:])
        shapes = [(lengths.randint(32, 512), lengths.randint(32, 128)) for _ in range(count)]
        return [Workload([prompt(size) for size, _ in shapes], [new for _, new in shapes])]
    if name == "prefill":
        return [Workload([prompt(DOCUMENT)], [1])]
    if name == "second":
        document = prompt(DOCUMENT)
        return [Workload([document + prompt(32)], [1]), Workload([document + prompt(32)], [1])]
    raise ValueError(f"no figure is called {name!r}")
