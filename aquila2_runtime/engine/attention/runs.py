"""Runs: the stretches of consecutive places in the cache that a request's tokens lie in."""

from __future__ import annotations

from collections.abc import Sequence

# First place and number of places; a place is block * block_size + offset.
Run = tuple[int, int]


def runs_of(blocks: Sequence[int], block_size: int, num_tokens: int) -> list[Run]:
    """Where the first ``num_tokens`` tokens of a block table lie, in order.

    Args:
        blocks: The table; what is behind the last token's block is not read.
        block_size: Tokens per block.
        num_tokens: Tokens to cover.
    """
    runs: list[Run] = []
    used = -(-num_tokens // block_size)
    first = 0
    for index in range(1, used + 1):
        if index == used or blocks[index] != blocks[index - 1] + 1:
            left = num_tokens - first * block_size
            places = min((index - first) * block_size, left)
            runs.append((blocks[first] * block_size, places))
            first = index
    return runs
