"""RunAttention: attention on CPU that reads fp32 keys and values where they lie, without copies.

A request's tokens lie in a few runs of consecutive places (the block pool sees to that), and a run
of the cache is a view that torch's fused kernel reads in place. Every request is computed by itself
over exactly its own tokens: nothing is gathered, nothing is padded, and nothing depends on what
else is in the batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Final

import torch
import torch.nn.functional as F

from aquila2_runtime.engine.attention.base import Attention
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.plan import AttentionPlan
from aquila2_runtime.engine.attention.runs import Run, runs_of

# Several runs are read one by one and weighed together by their log-sum-exps, which rounds a little
# differently. Up to this many tokens it is as fast to bring them together first; scattered over
# more than so many runs it is faster.
_FEW_TOKENS: Final = 128
_MANY_RUNS: Final = 8

# The kernel itself: torch's public function would first look which kernel to take, and keeps the
# log-sum-exps to itself.
_FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default


@dataclasses.dataclass(frozen=True, slots=True)
class _Segment:
    """Rows of one request: which, what they may see, and where that lies.

    Attributes:
        mask: For several rows behind others, 0 where a row may look and -inf elsewhere.
    """

    start: int
    count: int
    context: int
    runs: list[Run]
    mask: torch.Tensor | None = None


class RunAttention(Attention):
    """Reads each request's runs in place.

    Args:
        cache: Its keys and values, fp32 on CPU.
    """

    name: ClassVar[str] = "runs"

    def __init__(self, cache: PagedKVCache) -> None:
        super().__init__(cache)
        heads, _, _, dim = cache.keys[0].shape
        self._kv_heads, self._dim = heads, dim
        # Views, made once: [heads, places, dim].
        self._keys = [keys.view(heads, -1, dim) for keys in cache.keys]
        self._values = [values.view(heads, -1, dim) for values in cache.values]
        self._plan: AttentionPlan | None = None
        self._segments: list[_Segment] = []

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        plan: AttentionPlan,
    ) -> torch.Tensor:
        """Store a step's keys and values and attend over them (see ``Attention.attend``)."""
        if plan is not self._plan:
            self._segments, self._plan = _segments(plan, self.cache.block_size), plan
        self.cache.store(layer, plan.slots, key, value)
        keys, values = self._keys[layer], self._values[layer]
        wide = query.float()
        parts = [self._part(wide, keys, values, segment) for segment in self._segments]
        mixed = parts[0] if len(parts) == 1 else torch.cat(parts)
        return mixed.to(query.dtype)

    def _part(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, segment: _Segment
    ) -> torch.Tensor:
        """One request's rows: ``[rows, heads, dim]``."""
        rows = query.narrow(0, segment.start, segment.count)
        runs = segment.runs
        if segment.count > 1:
            return _chunk(rows, *_joined(keys, values, runs), segment)
        # One row sees everything, so the heads of a group can be rows of one.
        folded = rows.view(1, self._kv_heads, -1, self._dim)
        if len(runs) > 1 and (segment.context <= _FEW_TOKENS or len(runs) > _MANY_RUNS):
            keys, values = _joined(keys, values, runs)
            runs = [(0, segment.context)]
        if len(runs) == 1:
            mixed = _fused(folded, keys, values, runs[0])[0]
        else:
            mixed = _weighed([_fused(folded, keys, values, run) for run in runs])
        return mixed.reshape(1, -1, self._dim)


def _segments(plan: AttentionPlan, block_size: int) -> list[_Segment]:
    segments: list[_Segment] = []
    if plan.num_decode:
        if plan.decode_blocks is None or plan.decode_lengths is None:
            msg = "a plan with decode rows has their blocks and lengths"
            raise RuntimeError(msg)
        lengths: list[int] = plan.decode_lengths.tolist()
        tables: list[list[int]] = plan.decode_blocks.tolist()
        segments += [
            _Segment(row, 1, length, runs_of(table, block_size, length))
            for row, (table, length) in enumerate(zip(tables, lengths, strict=True))
        ]
    segments += [
        _Segment(
            part.start,
            part.count,
            part.context,
            runs_of(part.blocks.tolist(), block_size, part.context),
            _mask(part.count, part.context),
        )
        for part in plan.prefills
    ]
    return segments


def _mask(count: int, context: int) -> torch.Tensor | None:
    if count in {1, context}:
        return None
    return torch.full((count, context), float("-inf")).triu_(context - count + 1)


def _chunk(
    rows: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, segment: _Segment
) -> torch.Tensor:
    """Consecutive rows of one request over its tokens, causally. ``[rows, heads, dim]``."""
    heads = rows.shape[1]
    mixed = F.scaled_dot_product_attention(
        rows.transpose(0, 1)[None],
        keys[None],
        values[None],
        attn_mask=segment.mask,
        is_causal=segment.mask is None,
        enable_gqa=heads != keys.shape[0],
    )
    return mixed[0].transpose(0, 1)


def _fused(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, run: Run
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over a whole run, read in place; with its log-sum-exps."""
    place, count = run
    found: tuple[torch.Tensor, torch.Tensor] = _FLASH(
        query, keys.narrow(1, place, count)[None], values.narrow(1, place, count)[None]
    )
    return found


def _weighed(parts: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Parts of one attention, each normalized by itself, as the whole."""
    shares = torch.stack([log_sums for _, log_sums in parts]).softmax(dim=0)[..., None]
    mixed = parts[0][0] * shares[0]
    for (output, _), share in zip(parts[1:], shares[1:], strict=True):
        mixed.addcmul_(output, share)
    return mixed


def _joined(
    keys: torch.Tensor, values: torch.Tensor, runs: Sequence[Run]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens of some runs as ``[kv_heads, tokens, dim]``; views where it is one run."""
    found = [(keys.narrow(1, *run), values.narrow(1, *run)) for run in runs]
    if len(found) == 1:
        return found[0]
    return torch.cat([pair[0] for pair in found], dim=1), torch.cat([pair[1] for pair in found], 1)
