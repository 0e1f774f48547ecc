"""One row's truncation and draw, on lists. It knows no tensors and no vocabulary.

For one row among some dozens of candidates thirty tensor operations take several times as long as
the same arithmetic on Python's numbers, which gives the same result: weights are whole numbers.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What leaves candidates out.

    Attributes:
        top_k: How many of the likeliest stay; None for all.
        top_p: Share of the mass behind which none stays; 1 for all.
        min_p: Least weight, as a share of the likeliest's.
        least: Lower bound of the mass that top-p is a share of; not used with a top-k.
        most: Its upper bound.
    """

    top_k: int | None
    top_p: float
    min_p: float
    least: float
    most: float


def in_order(values: Sequence[float], ids: Sequence[int]) -> list[int]:
    """Places of the candidates: the likeliest first, equal ones by id."""
    return sorted(range(len(ids)), key=lambda place: (-values[place], ids[place]))


def draw_one(
    values: Sequence[float], weights: Sequence[int], limits: Limits, noise: float
) -> tuple[int, bool]:
    """Draw among candidates; say whether no other outcome was possible, had all ids been seen.

    Args:
        values: Their scores, the likeliest first.
        weights: Whole numbers in proportion to their probabilities, in that order.
        limits: What leaves some of them out.
        noise: In [0, 1).

    Returns:
        The place of the drawn one, and whether it is sure.
    """
    kept, sure = len(weights), True
    least, most = limits.least, limits.most
    if limits.top_k is not None:
        # Candidates fewer than top-k leaves are not the mass that its top-p is a share of.
        sure = limits.top_p == 1.0 or limits.top_k <= kept
        kept = min(kept, limits.top_k)
        least = most = float(sum(weights[:kept]))
    before = list(itertools.accumulate(weights[:kept], initial=0))
    if limits.top_p < 1.0:
        # A token stays while those likelier than it have not reached top_p: the first always.
        inner = _reached(before, limits.top_p * least, kept)
        kept = _reached(before, limits.top_p * most, kept)
        sure = sure and inner == kept
    if limits.min_p > 0.0:
        least_weight = limits.min_p * float(weights[0])
        kept = next((i for i in range(kept) if float(weights[i]) < least_weight), kept)
    total = before[kept]
    # Rounding may reach the total itself, behind which there is no place.
    target = min(int(noise * float(total)), total - 1)
    place = next(i for i in range(kept) if before[i + 1] > target)
    # Of ids equal to the last candidate some may be missing, so none of these may be kept.
    last = next(i for i in range(kept - 1, -1, -1) if weights[i])
    return place, sure and values[last] > values[-1]


def _reached(before: Sequence[int], share: float, kept: int) -> int:
    """How many places lie before the one at which the weights before it reach a share."""
    return next((i for i in range(kept) if float(before[i]) >= share), kept)
