"""Prompt rows on CPU, in tiles that begin at fixed positions. It knows no requests and no cache.

How torch's fused kernel adds up depends on how many rows and tokens it is given. So rows are
computed in tiles of one size, each over the tokens up to its own end, whatever part of a tile a
step holds: what is missing is padding. A row is then the same number however a prompt is cut into
chunks and however much of it the prefix cache holds.

Where the processor multiplies bfloat16 and the weights are of that type, so are the queries, keys
and values of prompts, as in other engines; sums and exponentials stay fp32.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F

# Rows of a tile. In fp32 what the kernel takes at once when it is given few; in bfloat16 twice as
# many, for it lays out keys and values anew for every call, and one tile still costs no more.
_FP32_ROWS: Final = 32
_BF16_ROWS: Final = 64


class Tiles:
    """Attends with consecutive rows of one request; keeps the mask that all tiles share.

    Args:
        dtype: What is multiplied: fp32 or bfloat16.

    Attributes:
        dtype: The same.
        size: Rows of a tile.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.size = _BF16_ROWS if dtype == torch.bfloat16 else _FP32_ROWS
        self._mask = self._mask_behind(16 * self.size)

    def attend(
        self, rows: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, context: int
    ) -> torch.Tensor:
        """Attend causally.

        Args:
            rows: The last queries of the context. ``[count, heads, dim]``.
            keys: Of the context, then zeros up to a whole tile, in the tiles' type.
                ``[kv_heads, tokens, dim]``.
            values: The same.
            context: Tokens that the last row sees.

        Returns:
            ``[count, heads, dim]``, in the tiles' type.
        """
        rows = rows.to(self.dtype)
        count, heads, dim = rows.shape
        size = self.size
        first = context - count
        grouped = heads != keys.shape[0]
        pieces: list[torch.Tensor] = []
        for start in range(first // size * size, context, size):
            end = start + size
            low, high = max(start, first), min(end, context)
            own = rows[low - first : high - first]
            if high - low < size:
                padded = rows.new_zeros(size, heads, dim)
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

    def padded(self, context: int) -> int:
        """How many tokens keys and values must have for so long a context."""
        return -(-context // self.size) * self.size

    def _mask_of(self, start: int) -> torch.Tensor:
        """What the rows of a tile see: all before it, and within it all up to themselves."""
        before = self._mask.shape[1] - self.size
        if start > before:
            before = max(start, 2 * before)
            self._mask = self._mask_behind(before)
        return self._mask[:, before - start :]

    def _mask_behind(self, before: int) -> torch.Tensor:
        shape = self.size, before + self.size
        return torch.full(shape, float("-inf"), dtype=self.dtype).triu_(before + 1)
