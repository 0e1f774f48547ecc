"""StandingRows: the block tables of decoding rows, kept from step to step. It plans nothing.

From one step to the next most decoding rows are the same ones, each with a token more. Their tables
are then grown in place, where making them anew is most of a plan's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F

# Columns that a table gets beyond those it needs.
_SPARE: Final = 8


class StandingRows:
    """Tables and lengths of the decoding rows of the last plan, on CPU.

    Args:
        block_size: Tokens per block.
    """

    def __init__(self, block_size: int) -> None:
        self._size = block_size
        self._lists: list[list[int]] = []
        self._starts: list[int] = []
        self._blocks = torch.empty(0, 0, dtype=torch.int64)
        self._lengths = torch.empty(0, dtype=torch.int32)

    def forget(self) -> None:
        """Take the next rows for other ones."""
        self._lists = []

    def advance(
        self, lists: list[list[int]], starts: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """Go on to a step's rows, which see their own token and all before it.

        Args:
            lists: Every row's own list of blocks. Whoever changes what a list holds already makes
                a new list of it (see ``BlockPool.enter``).
            starts: Every row's position.

        Returns:
            Blocks ``[rows, n]``, padded with block 0; lengths, int32 ``[rows]``; and whether the
            rows are those of the last call, each with a token more. The blocks are good until the
            next call.
        """
        follows = self._follow(lists, starts)
        if follows:
            self._grow(lists, starts)
            self._lengths = self._lengths + 1
        else:
            self._blocks = self._table(lists, starts)
            self._lengths = torch.tensor([start + 1 for start in starts], dtype=torch.int32)
        self._lists, self._starts = lists, starts
        return self._blocks, self._lengths, follows

    def _follow(self, lists: Sequence[list[int]], starts: Sequence[int]) -> bool:
        return (
            len(lists) == len(self._lists)
            and starts == [start + 1 for start in self._starts]
            and all(now is before for now, before in zip(lists, self._lists, strict=True))
        )

    def _grow(self, lists: Sequence[list[int]], starts: Sequence[int]) -> None:
        size = self._size
        new = [(row, start // size) for row, start in enumerate(starts) if start % size == 0]
        if not new:
            return
        missing = max(column for _, column in new) + 1 - self._blocks.shape[1]
        if missing > 0:
            self._blocks = F.pad(self._blocks, (0, missing + _SPARE))
        for row, column in new:
            self._blocks[row, column] = lists[row][column]

    def _table(self, lists: Sequence[list[int]], starts: Sequence[int]) -> torch.Tensor:
        tables = [
            blocks[: start // self._size + 1] for blocks, start in zip(lists, starts, strict=True)
        ]
        width = max(map(len, tables))
        return torch.tensor([table + [0] * (width - len(table)) for table in tables])
