"""Sharing: who leads with the same blocks, and whether reading them once pays. No tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

# Reading a prefix once saves (rows - 1) x its tokens, and costs a second softmax and a merge. Where
# the two meet is for the implementation of attention to say; this is where it does not.
MIN_SHARED_TOKENS: Final = 256
MIN_SAVED_TOKENS: Final = 1_024

Table = list[int]


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Rows that lead with the same blocks.

    Attributes:
        rows: Their indices.
        length: How many leading blocks they share.
    """

    rows: tuple[int, ...]
    length: int

    @property
    def saved(self) -> int:
        """Blocks that need not be read again."""
        return (len(self.rows) - 1) * self.length


def shared_groups(
    tables: Sequence[Table], block_size: int, least_saved: int = MIN_SAVED_TOKENS
) -> list[Group]:
    """Group rows by their leading blocks so that as little as possible is read twice.

    A row joins one group at most. Rows of one document under one system prompt may be grouped by
    the document, apart from other documents' rows, or all together by the system prompt: whichever
    saves more.

    Args:
        tables: Of each row, the blocks that are full before its own token.
        block_size: Tokens per block.
        least_saved: Tokens a group must save.

    Returns:
        The groups worth having.
    """
    by_first: dict[int, list[int]] = {}
    for row, table in enumerate(tables):
        if len(table) * block_size >= MIN_SHARED_TOKENS:
            by_first.setdefault(table[0], []).append(row)
    found = [group for rows in by_first.values() for group in _best(tables, rows)]
    return [
        group
        for group in found
        if group.length * block_size >= MIN_SHARED_TOKENS
        and group.saved * block_size >= least_saved
    ]


def _best(tables: Sequence[Table], rows: Sequence[int]) -> list[Group]:
    """All of these rows, which share their first block, as one group, or their parts as several."""
    if len(rows) == 1:
        return []
    # What the least and the greatest share, all between them share.
    length = common_length(min(tables[row] for row in rows), max(tables[row] for row in rows))
    whole = Group(tuple(rows), length)
    by_next: dict[int, list[int]] = {}
    for row in rows:
        if len(tables[row]) > length:
            by_next.setdefault(tables[row][length], []).append(row)
    parts = [group for some in by_next.values() for group in _best(tables, some)]
    return parts if sum(group.saved for group in parts) > whole.saved else [whole]


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading numbers two sequences of one type share."""
    low, high = 0, min(len(first), len(second))
    if first[:high] == second[:high]:
        return high
    # Comparing slices is a hundred times faster than comparing numbers here, one by one.
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low
