"""PagedKVCache: the stored keys and values of every layer. It knows no requests and no policy.

Layout of one layer's keys (values alike): ``[kv_heads, num_blocks, block_size, head_dim]``. Heads
come first, so that the blocks of a batch gathered along the second axis form, without a copy, the
contiguous ``[kv_heads * rows, tokens, head_dim]`` batch of a matrix product.
"""

from __future__ import annotations

import torch


class PagedKVCache:
    """The keys and values of every layer.

    Args:
        num_layers: Layers of the model.
        num_blocks: Blocks that can be held; one more is made for padding (block 0).
        block_size: Tokens per block.
        num_kv_heads: Key/value heads.
        head_dim: Numbers per head.
        dtype: Stored type; fp32 on CPU saves a conversion of the whole cache per step there.
        device: Where it lives.
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
    ) -> None:
        self.block_size = block_size
        shape = (num_kv_heads, num_blocks + 1, block_size, head_dim)
        # Zeros, not empty: masked places are multiplied by 0, and 0 * NaN is NaN.
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(num_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(num_layers)]

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
        keys, values = self.keys[layer], self.values[layer]
        heads, _, _, dim = keys.shape
        keys.view(heads, -1, dim).index_copy_(1, slots, key.transpose(0, 1).to(keys.dtype))
        values.view(heads, -1, dim).index_copy_(1, slots, value.transpose(0, 1).to(keys.dtype))
