"""GatheredAttention: blocks gathered, then plain matrix products. Runs on every device and torch.

It is the reference that faster implementations are tested against.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from aquila2_runtime.engine.attention.base import Attention
from aquila2_runtime.engine.attention.cache import GATHERED_BYTES, PagedKVCache
from aquila2_runtime.engine.attention.cascade import add_shared, weigh
from aquila2_runtime.engine.attention.plan import AttentionPlan, PrefillSegment
from aquila2_runtime.engine.attention.varlen import attend_chunk


class GatheredAttention(Attention):
    """Gathers each request's blocks, then multiplies."""

    name: ClassVar[str] = "gathered"
    cascades = True

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        plan: AttentionPlan,
    ) -> torch.Tensor:
        """Store a step's keys and values and attend over them (see ``Attention.attend``)."""
        self.cache.store(layer, plan.slots, key, value)
        mixed = torch.empty_like(query)
        if plan.num_decode:
            mixed[: plan.num_decode] = self._decode(layer, query[: plan.num_decode], plan)
        for segment in plan.prefills:
            rows = query[segment.start : segment.start + segment.count]
            mixed[segment.start : segment.start + segment.count] = _prefill(
                rows, self.cache, layer, segment
            )
        return mixed

    def _decode(self, layer: int, query: torch.Tensor, plan: AttentionPlan) -> torch.Tensor:
        """Every decoding row over its own table and the prefix it shares."""
        blocks, mask = plan.decode_blocks, plan.decode_mask
        if blocks is None or mask is None:
            msg = "a plan with decode rows has their blocks and mask"
            raise RuntimeError(msg)
        # All are as wide as the longest: one long context would fill the memory for all of them.
        most = max(1, GATHERED_BYTES // self.cache.gathered_bytes(mask.shape[1]))
        cascade = bool(plan.shared)
        parts = [
            _over_tables(query[some], blocks[some], mask[some], self.cache, layer, cascade)
            for some in (slice(low, low + most) for low in range(0, plan.num_decode, most))
        ]
        own = torch.cat([part for part, _ in parts]) if len(parts) > 1 else parts[0][0]
        if not plan.shared:
            return own
        log_sums = torch.cat([sums for _, sums in parts])
        return add_shared(query, own, log_sums, self.cache, layer, plan.shared)


def _over_tables(
    query: torch.Tensor,
    blocks: torch.Tensor,
    mask: torch.Tensor,
    cache: PagedKVCache,
    layer: int,
    shared: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Some rows over their own tables, as two batched matrix products.

    The logarithms of the sums of exponentials are returned as well; empty unless ``shared``
    prefixes are to come.
    """
    kv_heads = cache.keys[layer].shape[0]
    rows, heads, dim = query.shape
    group = heads // kv_heads
    tokens = blocks.shape[1] * cache.block_size
    k, v = cache.gather(layer, blocks.reshape(-1))
    # [kv_heads, rows * blocks, size, dim] -> [kv_heads * rows, tokens, dim], a view
    # What lies behind a row's end is another request's and may not be finite: 0 * NaN is NaN.
    hidden = mask.isneginf()
    v.view(kv_heads, rows, tokens, dim).masked_fill_(hidden[None, :, :, None], 0)
    k, v = k.view(kv_heads * rows, tokens, dim), v.view(kv_heads * rows, tokens, dim)
    # Query head h reads key/value head h // group, as in grouped-query attention.
    q = query.view(rows, kv_heads, group, dim).transpose(0, 1).reshape(kv_heads * rows, group, dim)
    scores = torch.bmm(q.to(k.dtype) * dim**-0.5, k.transpose(1, 2)).float()
    scores = scores.view(kv_heads, rows, group, tokens)
    scores = scores.masked_fill_(hidden[None, :, None, :], float("-inf"))
    log_sums = scores.new_empty(0)
    if shared:
        exponentials, sums, log_sums = weigh(scores)
        scores = exponentials.div_(sums)
        log_sums = log_sums.transpose(0, 1).reshape(rows, heads)
    else:
        scores = scores.softmax(dim=-1)
    weights = scores.view(kv_heads * rows, group, tokens).to(v.dtype)
    mixed = torch.bmm(weights, v).view(kv_heads, rows, group, dim)
    return mixed.transpose(0, 1).reshape(rows, heads, dim), log_sums


def _prefill(
    query: torch.Tensor, cache: PagedKVCache, layer: int, segment: PrefillSegment
) -> torch.Tensor:
    """Consecutive rows of one request over its blocks, causally."""
    k, v = cache.gather(layer, segment.blocks)
    kv_heads, dim = k.shape[0], k.shape[-1]
    k, v = k.view(1, kv_heads, -1, dim), v.view(1, kv_heads, -1, dim)
    k, v = k[:, :, : segment.context], v[:, :, : segment.context]
    q = query.transpose(0, 1)[None].to(k.dtype)
    before = segment.context - segment.count
    mask = None
    if before:
        last_seen = torch.arange(before, segment.context, device=query.device)
        mask = torch.arange(segment.context, device=query.device)[None, :] <= last_seen[:, None]
    return attend_chunk(q, k, v, mask)[0].transpose(0, 1).to(query.dtype)
