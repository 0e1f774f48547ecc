"""PagedKVCache: the stored keys and values of every layer. It knows no requests and no policy.

Layout of one layer's keys (values alike): ``[kv_heads, num_blocks, block_size, head_dim]``. Heads
come first, so that the blocks of a batch gathered along the second axis form, without a copy, the
contiguous ``[kv_heads * rows, tokens, head_dim]`` batch of a matrix product; and so that one head's
part of a block is one stretch of memory (4 KiB at 16 tokens of 128 numbers in 16 bits), which is
what a program of the CUDA decode kernel reads.

For decoding rows on CPU, 16-bit keys are kept a second time, in columns: ``[places / COLUMNS,
kv_heads * head_dim, COLUMNS]``, the places of a head in a line counted through (see ``columns``).

Stored as int8, every token and head has its own scale, its largest magnitude over 127: rounding is
then off by 0.4 % of that magnitude at most, on every device, whatever the other tokens hold.
"""

from __future__ import annotations

from typing import Final

import torch

# One fp32 scale per token and head.
SCALE_BYTES: Final = 4
_LARGEST: Final = 127.0
# Keys and values copied out of the cache at once, unless one request has more: a step's requests
# together may have as many tokens as the cache. Less than what prompts take on the way, which
# estimates count.
GATHERED_BYTES: Final = 64 * 2**20
# Places side by side in the second layout of keys: as many fp16 numbers as a line of the
# processor's cache holds.
COLUMNS: Final = 32


class PagedKVCache:
    """The keys and values of every layer.

    Args:
        num_layers: Layers of the model.
        num_blocks: Blocks that can be held; one more is made for padding (block 0).
        block_size: Tokens per block.
        num_kv_heads: Key/value heads.
        head_dim: Numbers per head.
        dtype: Stored type; on CPU fp32, or bfloat16 with ``columns``: others are converted there.
            int8 halves what 16 bits take.
        device: Where it lives.
        columns: Whether keys are kept in columns as well.

    Attributes:
        columns: Every layer's keys in columns, fp16; empty unless asked for.
        key_lines: The keys with their places in a line, views. ``[kv_heads, places, head_dim]``.
        value_lines: The same of values.
        lines: The heads' keys, then their values. ``[2 * kv_heads, places, head_dim]``.
        key_scales: What the stored integers are multiplied by; empty unless the type is int8.
        value_scales: The same for values. ``[kv_heads, num_blocks, block_size]`` each.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_blocks: int,
        block_size: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
        columns: bool = False,
    ) -> None:
        self.block_size = block_size
        self.dtype = dtype
        places = (num_kv_heads, num_blocks + 1, block_size)

        # Zeros, not empty: masked places are multiplied by 0, and 0 * NaN is NaN.
        def make(shape: tuple[int, ...], kind: torch.dtype) -> list[torch.Tensor]:
            return [torch.zeros(shape, dtype=kind, device=device) for _ in range(num_layers)]

        # One behind the other, so that one operation can store both.
        both = make((2, *places, head_dim), dtype)
        self.keys: list[torch.Tensor] = [pair[0] for pair in both]
        self.values: list[torch.Tensor] = [pair[1] for pair in both]
        # Made once: a step takes one of each for every layer.
        self.key_lines = [keys.flatten(1, 2) for keys in self.keys]
        self.value_lines = [values.flatten(1, 2) for values in self.values]
        self.lines = [pair.flatten(2, 3).flatten(0, 1) for pair in both]
        length = -(-(num_blocks + 1) * block_size // COLUMNS)
        wide = (length, num_kv_heads * head_dim, COLUMNS)
        self.columns = make(wide, torch.float16) if columns else []
        scaled = dtype == torch.int8
        self.key_scales = make(places, torch.float32) if scaled else []
        self.value_scales = make(places, torch.float32) if scaled else []

    @property
    def token_bytes(self) -> int:
        """Memory of one token's keys and values over all layers."""
        parts = (self.keys, self.values, self.columns, self.key_scales, self.value_scales)
        tensors = [tensor for part in parts for tensor in part]
        places: int = self.keys[0].shape[1] * self.block_size
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors) // places

    def gathered_bytes(self, tokens: int) -> int:
        """Memory of one layer's keys and values of some tokens, copied out."""
        heads, _, _, dim = self.keys[0].shape
        return 2 * tokens * heads * dim * (4 if self.scaled else self.dtype.itemsize)

    @property
    def scaled(self) -> bool:
        """Whether integers and scales are stored."""
        return bool(self.key_scales)

    def store(
        self, layer: int, slots: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> None:
        """Put a step's keys and values in their places.

        Args:
            layer: Index of the layer.
            slots: For every row, block * block_size + offset. ``[rows]``.
            key: ``[rows, kv_heads, head_dim]``, rotated.
            value: ``[rows, kv_heads, head_dim]``.
        """
        if self.scaled:
            key, key_scale = quantize(key)
            value, value_scale = quantize(value)
            _put(self.key_scales[layer].flatten(1), slots, key_scale)
            _put(self.value_scales[layer].flatten(1), slots, value_scale)
        if self.columns:
            places = slots // COLUMNS, slice(None), slots % COLUMNS
            self.columns[layer][places] = key.flatten(1).half()
        _put(self.key_lines[layer], slots, key)
        _put(self.value_lines[layer], slots, value)

    def gather(
        self, layer: int, blocks: torch.Tensor, dtype: torch.dtype | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy some blocks' keys and values out, as numbers that can be multiplied.

        Args:
            layer: Index of the layer.
            blocks: Block numbers. ``[n]``.
            dtype: Type for int8 caches to come out in; None is fp32. Others keep their own.

        Returns:
            Keys and values, ``[kv_heads, n, block_size, head_dim]`` each.
        """
        keys = self.keys[layer].index_select(1, blocks)
        values = self.values[layer].index_select(1, blocks)
        if not self.scaled:
            return keys, values
        key_scales = self.key_scales[layer].index_select(1, blocks)
        value_scales = self.value_scales[layer].index_select(1, blocks)
        wide = dtype or torch.float32
        return (
            (keys * key_scales[..., None]).to(wide),
            (values * value_scales[..., None]).to(wide),
        )


def quantize(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round to int8, one scale per row of the last axis.

    Args:
        states: Numbers. ``[..., n]``.

    Returns:
        int8 of the same shape, and fp32 scales ``[...]``: their product is near ``states``.
    """
    wide = states.float()
    scales = wide.abs().amax(dim=-1) / _LARGEST
    # A row of zeros has scale 0; divided by anything else it stays zeros.
    divisors = scales.clamp(min=torch.finfo(torch.float32).tiny)
    return (wide / divisors[..., None]).round().to(torch.int8), scales


def _put(line: torch.Tensor, slots: torch.Tensor, states: torch.Tensor) -> None:
    """Write ``[rows, kv_heads, ...]`` into ``[kv_heads, places, ...]``."""
    if states.dtype != line.dtype:
        states = states.to(line.dtype)
    line.index_copy_(1, slots, states.transpose(0, 1))
