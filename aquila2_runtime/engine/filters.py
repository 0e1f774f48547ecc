"""Filters: which of top-k, top-p and min-p rows have, and how far they reach. It draws nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from aquila2_runtime.engine.sample_row import SampleRow

# How many of the likeliest ids are sorted at most before a whole row is.
PREFILTER: Final = 1_024


def limit_of(row: SampleRow, width: int) -> int:
    """How many of the likeliest ids top-k leaves."""
    return min(row.params.top_k, width) if row.params.top_k > 0 else width


def reach(row: SampleRow, width: int) -> int:
    """Tell how far a row's filters reach.

    Returns:
        0: there is none; 1: the likeliest ids may be enough; 2: a full sort is needed.
    """
    limit = limit_of(row, width)
    if limit == width and row.params.top_p == 1.0 and row.params.min_p == 0.0:
        return 0
    return 2 if width <= PREFILTER or PREFILTER < limit < width else 1


@dataclasses.dataclass(frozen=True, slots=True)
class Filters:
    """Which filters any of some rows has; what none has is not computed.

    Attributes:
        top_k: Whether a row has a top-k.
        top_p: Whether one has a top-p, and ``open``: one has none.
        open: See there.
        min_p: Whether a row has a min-p.
        whole: Whether a top-p is a share of the whole vocabulary's weight.
    """

    top_k: bool = True
    top_p: bool = True
    open: bool = True
    min_p: bool = True
    whole: bool = True

    @classmethod
    def of(cls, rows: Sequence[SampleRow], width: int) -> Filters:
        """Those of some rows."""
        limited = [limit_of(row, width) < width for row in rows]
        shares = [row.params.top_p < 1.0 for row in rows]
        return cls(
            any(limited),
            any(shares),
            not all(shares),
            any(row.params.min_p > 0.0 for row in rows),
            any(share and not limit for share, limit in zip(shares, limited, strict=True)),
        )


ALL: Final = Filters()
