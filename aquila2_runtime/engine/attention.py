"""PagedKVCache and attention over it: keys and values in, mixed values out. No weights, no policy.

Layout of one layer's keys (values alike): ``[kv_heads, num_blocks, block_size, head_dim]``. Heads
come first, so that the blocks of a batch gathered along the second axis form, without a copy, the
contiguous ``[kv_heads * rows, tokens, head_dim]`` batch of a matrix product.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F


@dataclasses.dataclass(frozen=True, slots=True)
class PrefillSegment:
    """One request's consecutive new tokens within a step.

    Attributes:
        start: Its first row in the step.
        count: Its rows.
        context: Tokens visible to its last row, itself included.
        blocks: Its blocks, enough for ``context`` tokens. Shape ``[n]``.
    """

    start: int
    count: int
    context: int
    blocks: torch.Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class AttentionPlan:
    """Where a step's tokens go and what each may see; the same for every layer.

    Attributes:
        slots: For every row, its place in the cache (block * block_size + offset). ``[rows]``.
        num_decode: The first rows, one per decoding request.
        decode_blocks: Their block tables, padded with block 0. ``[num_decode, n]``.
        decode_mask: 0 where a decoding row may look, -inf elsewhere. ``[num_decode, n * size]``.
        prefills: The other rows.
    """

    slots: torch.Tensor
    num_decode: int
    decode_blocks: torch.Tensor | None
    decode_mask: torch.Tensor | None
    prefills: tuple[PrefillSegment, ...]


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

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        plan: AttentionPlan,
    ) -> torch.Tensor:
        """Store a step's keys and values and attend over everything each row may see.

        Args:
            layer: Index of the layer.
            query: ``[rows, heads, head_dim]``.
            key: ``[rows, kv_heads, head_dim]``, rotated.
            value: ``[rows, kv_heads, head_dim]``.
            plan: The step's plan.

        Returns:
            ``[rows, heads, head_dim]`` in the query's type.
        """
        keys, values = self.keys[layer], self.values[layer]
        heads, _, _, dim = keys.shape
        keys.view(heads, -1, dim).index_copy_(1, plan.slots, key.transpose(0, 1).to(keys.dtype))
        values.view(heads, -1, dim).index_copy_(1, plan.slots, value.transpose(0, 1).to(keys.dtype))
        mixed = torch.empty_like(query)
        if plan.num_decode:
            rows = query[: plan.num_decode]
            mixed[: plan.num_decode] = _decode(rows, keys, values, plan)
        for segment in plan.prefills:
            rows = query[segment.start : segment.start + segment.count]
            mixed[segment.start : segment.start + segment.count] = _prefill(
                rows, keys, values, segment
            )
        return mixed


def _decode(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, plan: AttentionPlan
) -> torch.Tensor:
    """One query row per request, each over its own blocks, as two batched matrix products."""
    if plan.decode_blocks is None or plan.decode_mask is None:
        msg = "a plan with decode rows has their blocks and mask"
        raise RuntimeError(msg)
    kv_heads, _, size, dim = keys.shape
    rows, heads, _ = query.shape
    group = heads // kv_heads
    tokens = plan.decode_blocks.shape[1] * size
    chosen = plan.decode_blocks.reshape(-1)
    # [kv_heads, rows * blocks, size, dim] -> [kv_heads * rows, tokens, dim], a view
    k = keys.index_select(1, chosen).view(kv_heads * rows, tokens, dim)
    v = values.index_select(1, chosen).view(kv_heads * rows, tokens, dim)
    # Query head h reads key/value head h // group, as in grouped-query attention.
    q = query.view(rows, kv_heads, group, dim).transpose(0, 1).reshape(kv_heads * rows, group, dim)
    scores = torch.bmm(q.to(k.dtype) * dim**-0.5, k.transpose(1, 2)).float()
    scores = scores.view(kv_heads, rows, group, tokens) + plan.decode_mask[None, :, None, :]
    weights = scores.softmax(dim=-1).view(kv_heads * rows, group, tokens).to(v.dtype)
    mixed = torch.bmm(weights, v).view(kv_heads, rows, group, dim)
    return mixed.transpose(0, 1).reshape(rows, heads, dim).to(query.dtype)


def _prefill(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, segment: PrefillSegment
) -> torch.Tensor:
    """Consecutive rows of one request over its blocks, causally."""
    kv_heads, _, size, dim = keys.shape
    tokens = segment.blocks.shape[0] * size
    k = keys.index_select(1, segment.blocks).view(1, kv_heads, tokens, dim)
    v = values.index_select(1, segment.blocks).view(1, kv_heads, tokens, dim)
    k, v = k[:, :, : segment.context], v[:, :, : segment.context]
    q = query.transpose(0, 1)[None].to(k.dtype)
    before = segment.context - segment.count
    mask = None
    if before:
        last_seen = torch.arange(before, segment.context, device=query.device)
        mask = torch.arange(segment.context, device=query.device)[None, :] <= last_seen[:, None]
    mixed = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=before == 0, enable_gqa=q.shape[1] != kv_heads
    )
    return mixed[0].transpose(0, 1).to(query.dtype)
