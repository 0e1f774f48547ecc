"""Prompt rows on CPU, in tiles that begin at fixed positions. It knows no requests and no cache.

How torch's fused kernel adds up depends on how many rows and tokens it is given. So rows are
computed in tiles of one size, each over the tokens up to its own end, whatever part of a tile a
step holds: what is missing is padding. A row is then the same number however a prompt is cut into
chunks and however much of it the prefix cache holds.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F

# Rows of a tile: what the kernel takes at once when it is given few.
TILE: Final = 32


class Tiles:
    """Attends with consecutive rows of one request; keeps the mask that all tiles share."""

    def __init__(self) -> None:
        self._mask = _mask(16 * TILE)

    def attend(
        self, rows: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, context: int
    ) -> torch.Tensor:
        """Attend causally.

        Args:
            rows: The last queries of the context, fp32. ``[count, heads, dim]``.
            keys: Of the context, then zeros up to a whole tile. ``[kv_heads, tokens, dim]``.
            values: The same.
            context: Tokens that the last row sees.

        Returns:
            ``[count, heads, dim]``.
        """
        count, heads, dim = rows.shape
        first = context - count
        grouped = heads != keys.shape[0]
        pieces: list[torch.Tensor] = []
        for start in range(first // TILE * TILE, context, TILE):
            end = start + TILE
            low, high = max(start, first), min(end, context)
            own = rows[low - first : high - first]
            if high - low < TILE:
                padded = rows.new_zeros(TILE, heads, dim)
                padded[low - start : high - start] = own
                own = padded
            mixed = F.scaled_dot_product_attention(
                own.transpose(0, 1)[None],
                keys[None, :, :end],
                values[None, :, :end],
                attn_mask=self._mask_of(start),
                enable_gqa=grouped,
            )
            pieces.append(mixed[0].transpose(0, 1)[low - start : high - start])
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _mask_of(self, start: int) -> torch.Tensor:
        """What the rows of a tile see: all before it, and within it all up to themselves."""
        before = self._mask.shape[1] - TILE
        if start > before:
            before = max(start, 2 * before)
            self._mask = _mask(before)
        return self._mask[:, before - start :]


def padded_to_tile(context: int) -> int:
    """How many tokens keys and values must have for so long a context."""
    return -(-context // TILE) * TILE


def _mask(before: int) -> torch.Tensor:
    return torch.full((TILE, before + TILE), float("-inf")).triu_(before + 1)
