"""Owns what a run does when: row lengths, rates and its end. It knows no network and no data."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

WARM = 40
# Up to which fraction of the run rows have which length, and whether plain look-up dominates.
STAGES = [(0.1, 128, True), (0.6, 256, False), (0.88, 512, False), (0.96, 1024, False)]
LAST_STAGE = (2048, False)
# A run that goes on from a checkpoint has learnt to look up. Up to which fraction of it a step has
# rows of which length, with which weight.
ONWARD = [
    (0.15, {256: 1, 512: 1}),
    (0.5, {256: 4, 512: 7, 1024: 6, 2048: 3}),
    (1.0, {256: 3, 512: 4, 1024: 5, 2048: 5, 4096: 4}),
]
# From which fraction of a run that goes on steps see their matrices as NF4 rounds them, but for one
# in this many.
ROUNDED_FROM, PLAIN_EVERY = 0.5, 4
# The same of a run that goes on with four times the window. Positions are divided by four there,
# which costs the checkpoint nearly all it knows until it has read some millions of tokens.
WINDOW = 4096
LONG = [
    (0.3, {256: 2, 512: 2, 1024: 2, 2048: 2, 4096: 1}),
    (0.7, {256: 1, 512: 2, 1024: 2, 2048: 2, 4096: 2, 8192: 3, 16384: 2}),
    (1.0, {512: 2, 1024: 2, 2048: 2, 4096: 2, 8192: 3, 16384: 6}),
]


@dataclass(frozen=True)
class Plan:
    """What a run does: where it writes, for how long, from what."""

    out: Path
    seconds: float
    seed: int
    tokens: int
    budget: int
    start: Path | None
    peak: float = 1.0
    window: int = WINDOW

    def done(self, used: float, tokens: int) -> float:
        """Gives the fraction of the run behind us, by time or by the token budget."""
        by_tokens = tokens / self.budget if self.budget else 0.0
        return max(used / self.seconds, by_tokens)

    def stage(self, done: float, step: int = 0) -> tuple[int, bool]:
        """Gives row length and whether plain look-up dominates, at a fraction of the run."""
        if self.start is None:
            return next(((n, early) for end, n, early in STAGES if done < end), LAST_STAGE)
        stages = ONWARD if self.window == WINDOW else LONG
        shares = next((shares for end, shares in stages if done < end), stages[-1][1])
        drawn = random.Random(f"{self.seed} {step}").choices([*shares], [*shares.values()])
        return drawn[0], False

    def rounds(self, done: float, step: int) -> bool:
        """Says whether a step is taken through rounded weights."""
        return self.start is not None and done >= ROUNDED_FROM and step % PLAIN_EVERY > 0

    def rate(self, done: float, step: int) -> float:
        """Gives the factor of the learning rates: short warm-up, flat, linear to zero.

        A run that goes on from a checkpoint has no flat part: steps are small, so what it gains
        over its start comes with the falling rate.
        """
        falling = 0.55 if self.start is None else 1.0
        warm = self.peak * min(1.0, (step + 1) / WARM)
        return warm * min(1.0, max(0.005, (1.0 - done) / falling))
