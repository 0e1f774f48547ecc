"""PagedAttention: Triton for decoding rows and storing, a varlen kernel for prompts. No requests.

Runs on CUDA, and on CPU under Triton's interpreter, which is how its arithmetic is tested.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Final

import torch

from aquila2_runtime.engine.attention.base import Attention
from aquila2_runtime.engine.attention.cache import GATHERED_BYTES, PagedKVCache
from aquila2_runtime.engine.attention.cascade import add_shared
from aquila2_runtime.engine.attention.paged_decode import choose_splits, paged_decode
from aquila2_runtime.engine.attention.paged_store import paged_store
from aquila2_runtime.engine.attention.plan import AttentionPlan, PrefillSegment
from aquila2_runtime.engine.attention.varlen import Packed, Varlen, pack

# Stands for a device's multiprocessors where there is none to ask.
_PROCESSORS: Final = 8


class PagedAttention(Attention):
    """Reads blocks in place; nothing is gathered for decoding rows.

    Args:
        cache: The keys and values.
        varlen: Attention of prompt chunks.
    """

    name: ClassVar[str] = "paged"
    reads_lengths: ClassVar[bool] = True
    cascades = True

    def __init__(self, cache: PagedKVCache, varlen: Varlen) -> None:
        super().__init__(cache)
        self._varlen = varlen
        self._processors = _processors(cache.keys[0].device)
        # The chunks' layout is the same for every layer of a step.
        self._packed: tuple[AttentionPlan, list[Packed]] | None = None

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        plan: AttentionPlan,
    ) -> torch.Tensor:
        """Store a step's keys and values and attend over them (see ``Attention.attend``)."""
        paged_store(
            self.cache.keys[layer],
            self.cache.values[layer],
            plan.slots,
            key,
            value,
            *self._scales(layer),
        )
        decodes = plan.num_decode
        if not plan.prefills:
            return self._decode(layer, query, plan)
        mixed = torch.empty_like(query, memory_format=torch.contiguous_format)
        if decodes:
            mixed[:decodes] = self._decode(layer, query[:decodes], plan)
        mixed[decodes:] = self._prefill(
            layer, query[decodes:], key[decodes:], value[decodes:], plan
        )
        return mixed

    def _decode(self, layer: int, query: torch.Tensor, plan: AttentionPlan) -> torch.Tensor:
        tables, lengths = plan.decode_blocks, plan.decode_lengths
        if tables is None or lengths is None:
            msg = "a plan with decode rows has their blocks and lengths"
            raise RuntimeError(msg)
        keys = self.cache.keys[layer]
        longest = tables.shape[1] * self.cache.block_size
        key_scales, value_scales = self._scales(layer)
        log_sums = None
        if plan.shared:
            log_sums = torch.empty(query.shape[:2], dtype=torch.float32, device=query.device)
        mixed = paged_decode(
            query,
            keys,
            self.cache.values[layer],
            tables,
            lengths,
            splits=choose_splits(query.shape[0], keys.shape[0], longest, self._processors),
            key_scales=key_scales,
            value_scales=value_scales,
            log_sums=log_sums,
        )
        if log_sums is None:
            return mixed
        whole = add_shared(query, mixed, log_sums, self.cache, layer, plan.shared)
        return whole.to(query.dtype)

    def _prefill(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        plan: AttentionPlan,
    ) -> torch.Tensor:
        if self._packed is None or self._packed[0] is not plan:
            groups = _groups(plan.prefills, self.cache)
            self._packed = plan, [pack(group, self.cache.block_size) for group in groups]
        parts, row = list[torch.Tensor](), 0
        for packed in self._packed[1]:
            rows = slice(row, row + sum(packed.counts))
            row = rows.stop
            own = key[rows], value[rows]
            # Rounded keys are read back, so that a chunk sees what later chunks and requests see.
            if not packed.fresh or self.cache.scaled:
                own = self._contexts(layer, packed.places, query.dtype)
            parts.append(self._varlen(query[rows], *own, packed))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _contexts(
        self, layer: int, places: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        key_scales, value_scales = self._scales(layer)
        return (
            _at(self.cache.keys[layer], key_scales, places, dtype),
            _at(self.cache.values[layer], value_scales, places, dtype),
        )

    def _scales(self, layer: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        if not self.cache.scaled:
            return None, None
        return self.cache.key_scales[layer], self.cache.value_scales[layer]


def _groups(
    segments: Sequence[PrefillSegment], cache: PagedKVCache
) -> Iterator[Sequence[PrefillSegment]]:
    """Chunks to attend with at once: their contexts are no more than the longest, or not many.

    Those of one document hold it once in the cache, and each its own copy when they are read.
    """
    longest = max(segment.context for segment in segments)
    most = max(GATHERED_BYTES, cache.gathered_bytes(longest))
    first = held = 0
    for at, segment in enumerate(segments):
        own = cache.gathered_bytes(segment.context)
        if at > first and held + own > most:
            yield segments[first:at]
            first, held = at, 0
        held += own
    yield segments[first:]


def _at(
    stored: torch.Tensor, scales: torch.Tensor | None, places: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Stored rows at some places. ``[tokens, kv_heads, head_dim]``, a view with strides."""
    heads, _, _, dim = stored.shape
    rows = stored.view(heads, -1, dim).index_select(1, places)
    if scales is not None:
        rows = rows * scales.view(heads, -1).index_select(1, places)[..., None]
    return rows.to(dtype).transpose(0, 1)


def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return _PROCESSORS
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
