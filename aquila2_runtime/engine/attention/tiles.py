"""Prompt rows on CPU, in tiles that begin at fixed positions. It knows no requests and no cache.

How torch's fused kernel adds up depends on how many rows and tokens it is given. So rows are
computed in tiles of one size, each over the tokens up to its own end, whatever part of a tile a
step holds: what is missing is padding. A row is then the same number however a prompt is cut into
chunks and however much of it the prefix cache holds.

Where the processor multiplies bfloat16 and the weights are of that type, so are the queries, keys
and values of prompts, as in other engines; sums and exponentials stay fp32. The kernel lays out
bfloat16 keys and values anew in every call, so several tiles go in one where a trial shows that
each is then the same as alone. Where it is slow, plain products take its place.
"""

from __future__ import annotations

import functools
from typing import Final

import torch
import torch.nn.functional as F

from aquila2_runtime.engine.attention.tile_products import attend_by_products, outrun_fused
from aquila2_runtime.engine.row_slices import has_amx

# Rows of a tile. In fp32 what the kernel takes at once when it is given few; in bfloat16 twice as
# many, for one tile costs no more.
_FP32_ROWS: Final = 32
_BF16_ROWS: Final = 64
# Bfloat16 tiles of one call. With more, rows would multiply ever more of what they must not see.
_JOINED: Final = 4


class Tiles:
    """Attends with consecutive rows of one request; keeps the mask that all tiles share.

    Args:
        dtype: What is multiplied: fp32 or bfloat16.
        products: Whether by plain products, in bfloat16 alone; None where these are faster.

    Attributes:
        dtype: The same.
        size: Rows of a tile.
    """

    def __init__(self, dtype: torch.dtype = torch.float32, products: bool | None = None) -> None:
        self.dtype = dtype
        wanted = outrun_fused() if products is None else products
        self._products = wanted and dtype == torch.bfloat16
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
        count, heads, dim = rows.shape
        size, first, after = self.size, context - count, self.padded(context)
        at_once = size * self._joined(heads, keys.shape[0], dim)
        start = first // size * size
        ahead, behind = first - start, after - context
        rows = rows.to(self.dtype)
        if ahead or behind:
            rows = F.pad(rows, (0, 0, 0, 0, ahead, behind))
        queries = rows.transpose(0, 1)
        pieces: list[torch.Tensor] = []
        for low in range(start, after, at_once):
            high = min(low + at_once, after)
            mixed = self._mixed(
                queries[:, low - start : high - start], keys, values, self._mask_of(low, high)
            )
            pieces.append(mixed.transpose(0, 1))
        found = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return found.narrow(0, ahead, count)

    def padded(self, context: int) -> int:
        """How many tokens keys and values must have for so long a context."""
        return -(-context // self.size) * self.size

    def _mixed(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Attends over the tokens that a mask is made for."""
        tokens = mask.shape[1]
        keys, values = keys[:, :tokens], values[:, :tokens]
        if self._products:
            return attend_by_products(queries, keys, values, mask)
        gqa = queries.shape[0] != keys.shape[0]
        return F.scaled_dot_product_attention(
            queries[None], keys[None], values[None], attn_mask=mask, enable_gqa=gqa
        )[0]

    def _joined(self, heads: int, kv_heads: int, dim: int) -> int:
        """How many tiles go in one call."""
        if self.dtype != torch.bfloat16 or self._products:
            return 1
        alike = joins(heads, kv_heads, dim, torch.get_num_threads())
        return _JOINED if alike else 1

    def _mask_of(self, low: int, high: int) -> torch.Tensor:
        """What rows see: all before the first of them, then all up to themselves."""
        most = self.size * _JOINED
        before = self._mask.shape[1] - most
        if low > before:
            before = max(low, 2 * before)
            self._mask = self._mask_behind(before)
        return self._mask[: high - low, before - low : before - low + high]

    def _mask_behind(self, before: int) -> torch.Tensor:
        most = self.size * _JOINED
        shape = most, before + most
        return torch.full(shape, float("-inf"), dtype=self.dtype).triu_(before + 1)


@functools.cache
def joins(heads: int, kv_heads: int, dim: int, threads: int) -> bool:
    """Whether a bfloat16 tile is the same among others as alone, on this processor.

    Args:
        heads: Query heads.
        kv_heads: Heads of keys and values.
        dim: Size of a head.
        threads: What torch computes with now; the kernel's ways depend on it.
    """
    del threads
    if not has_amx():
        # There the kernel packs keys or not by how much there is to multiply, so that what holds
        # at some places of a text does not at others.
        return False
    tiles = Tiles(torch.bfloat16, products=False)
    size, most = tiles.size, tiles.size * _JOINED
    # Behind tokens of more than one of the kernel's blocks of 512, and at the beginning.
    generator = torch.Generator().manual_seed(3)

    def some(rows: int, count: int) -> torch.Tensor:
        return torch.randn(1, count, rows, dim, generator=generator).bfloat16()

    tokens = 576 + most
    queries, keys, values = some(tokens, heads), some(tokens, kv_heads), some(tokens, kv_heads)

    def mixed(low: int, high: int) -> torch.Tensor:
        return F.scaled_dot_product_attention(
            queries[:, :, low:high],
            keys[:, :, :high],
            values[:, :, :high],
            attn_mask=tiles._mask_of(low, high),
            enable_gqa=heads != kv_heads,
        )

    for start in (0, 576):
        alone = [mixed(low, low + size) for low in range(start, start + most, size)]
        for count in range(2, _JOINED + 1):
            if not torch.equal(mixed(start, start + count * size), torch.cat(alone[:count], 2)):
                return False
    return True
