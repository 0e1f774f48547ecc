"""RunAttention: attention on CPU that reads fp32 keys and values where they lie, without copies.

A request's tokens lie in a few runs of consecutive places (the block pool sees to that), and a run
of the cache is a view that torch's fused kernel reads in place. Every request is computed by itself
over exactly its own tokens, but for decoding rows that see very few: those are gathered, padded to
one width and computed together. Either way a row does not depend on what else is in the batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Final

import torch
import torch.nn.functional as F

from aquila2_runtime.engine.attention.base import Attention
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.cascade import add_shared
from aquila2_runtime.engine.attention.plan import AttentionPlan
from aquila2_runtime.engine.attention.runs import Run, runs_of

# Decoding rows that see up to so many tokens are computed together, each padded to that: their
# keys and values are so few that copying them costs less than a call per row.
SHORT: Final = 64
# Tokens scattered over more runs than this are brought together first.
_MANY_RUNS: Final = 8
# Rows of a prompt computed at once behind others; the kernel takes large steps from 192 rows on.
_PIECE: Final = 256

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


@dataclasses.dataclass(frozen=True, slots=True)
class _Short:
    """Decoding rows that see few tokens.

    Attributes:
        rows: Which. ``[n]``.
        blocks: Their tables, all of one width, one after the other.
        mask: 0 where a row may look and -inf elsewhere. ``[n, 1, tokens]``.
        order: Places of all the step's rows when these are put behind the others; None when
            there are no others.
    """

    rows: torch.Tensor
    blocks: torch.Tensor
    mask: torch.Tensor
    order: torch.Tensor | None


class RunAttention(Attention):
    """Reads each request's runs in place.

    Args:
        cache: Its keys and values, fp32 on CPU.
    """

    name: ClassVar[str] = "runs"
    reads_lengths: ClassVar[bool] = True
    cascades: ClassVar[bool] = True

    def __init__(self, cache: PagedKVCache) -> None:
        super().__init__(cache)
        heads, _, _, dim = cache.keys[0].shape
        self._kv_heads, self._dim = heads, dim
        # Views, made once: [heads, places, dim].
        self._keys = [keys.view(heads, -1, dim) for keys in cache.keys]
        self._values = [values.view(heads, -1, dim) for values in cache.values]
        self._plan: AttentionPlan | None = None
        self._segments: list[_Segment] = []
        self._short: _Short | None = None

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
            self._short = _short(plan, self.cache.block_size)
            self._segments, self._plan = _segments(plan, self.cache.block_size), plan
        self.cache.store(layer, plan.slots, key, value)
        keys, values = self._keys[layer], self._values[layer]
        wide = query.float()
        found = [self._part(wide, keys, values, segment) for segment in self._segments]
        parts = [part for part, _ in found]
        if self._short is not None:
            parts.append(_together(wide, self.cache, layer, self._short))
            order = self._short.order
            mixed = parts[0] if order is None else torch.cat(parts)[order]
        else:
            mixed = parts[0] if len(parts) == 1 else torch.cat(parts)
        if plan.shared:
            decoded = slice(0, plan.num_decode)
            sums = torch.cat([sums.reshape(1, -1) for _, sums in found if sums is not None])
            mixed[decoded] = add_shared(
                wide[decoded], mixed[decoded], sums, self.cache, layer, plan.shared
            )
        return mixed.to(query.dtype)

    def _part(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, segment: _Segment
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One request's rows ``[rows, heads, dim]``, and a decoding row's log-sum-exps."""
        rows = query.narrow(0, segment.start, segment.count)
        runs = segment.runs
        if segment.count > 1:
            return _chunk(rows, *_joined(keys, values, runs), segment), None
        # One row sees everything, so the heads of a group can be rows of one.
        folded = rows.reshape(1, self._kv_heads, -1, self._dim)
        if len(runs) > _MANY_RUNS:
            keys, values = _joined(keys, values, runs)
            runs = [(0, segment.context)]
        mixed, sums = _fused(folded, keys, values, runs[0])
        for run in runs[1:]:
            mixed, sums = _weighed(mixed, sums, *_fused(folded, keys, values, run))
        return mixed.reshape(1, -1, self._dim), sums


def _segments(plan: AttentionPlan, block_size: int) -> list[_Segment]:
    """The rows that are computed one request at a time."""
    segments: list[_Segment] = []
    if plan.decode_blocks is not None and plan.decode_lengths is not None:
        lengths: list[int] = plan.decode_lengths.tolist()
        tables: list[list[int]] = plan.decode_blocks.tolist()
        segments += [
            _Segment(row, 1, length, runs_of(table, block_size, length))
            for row, (table, length) in enumerate(zip(tables, lengths, strict=True))
            if length > SHORT or plan.shared
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


def _short(plan: AttentionPlan, block_size: int) -> _Short | None:
    """The decoding rows that see few tokens; none where log-sum-exps of all rows are needed."""
    if plan.decode_blocks is None or plan.decode_lengths is None or plan.shared:
        return None
    rows = (plan.decode_lengths <= SHORT).nonzero()[:, 0]
    if not len(rows):
        return None
    width = -(-SHORT // block_size)
    tables = plan.decode_blocks[rows, :width]
    # Always as wide, whoever else is there: a row's sums are added up in the same order.
    tables = F.pad(tables, (0, width - tables.shape[1]))
    hidden = torch.arange(width * block_size) >= plan.decode_lengths[rows, None]
    mask = torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
    order = None
    if len(rows) < len(plan.slots):
        others = torch.ones(len(plan.slots), dtype=torch.bool).index_fill_(0, rows, False)
        order = torch.cat((others.nonzero()[:, 0], rows)).argsort()
    return _Short(rows, tables.reshape(-1), mask[:, None], order)


def _together(query: torch.Tensor, cache: PagedKVCache, layer: int, short: _Short) -> torch.Tensor:
    """Rows that see few tokens, in two products for all of them. ``[rows, heads, dim]``."""
    rows, tokens = len(short.rows), short.mask.shape[-1]
    keys, values = cache.gather(layer, short.blocks)
    kv_heads, dim = keys.shape[0], keys.shape[-1]
    heads = query.shape[1]
    own = query if short.order is None else query[short.rows]
    folded = own.unflatten(1, (kv_heads, -1)).transpose(0, 1)
    folded = folded.reshape(kv_heads * rows, -1, dim) * dim**-0.5
    scores = torch.bmm(folded, keys.view(kv_heads * rows, tokens, dim).transpose(1, 2))
    scores = scores.view(kv_heads, rows, -1, tokens).add_(short.mask)
    weights = scores.softmax(dim=-1).view(kv_heads * rows, -1, tokens)
    mixed = torch.bmm(weights, values.view(kv_heads * rows, tokens, dim))
    return mixed.view(kv_heads, rows, -1, dim).transpose(0, 1).reshape(rows, heads, dim)


def _mask(count: int, context: int) -> torch.Tensor | None:
    if count in {1, context}:
        return None
    return torch.full((count, context), float("-inf")).triu_(context - count + 1)


def _chunk(
    rows: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, segment: _Segment
) -> torch.Tensor:
    """Consecutive rows of one request over its tokens, causally. ``[rows, heads, dim]``."""
    by_head = rows.transpose(0, 1)[None]
    grouped = rows.shape[1] != keys.shape[0]
    if segment.mask is None:
        mixed = F.scaled_dot_product_attention(
            by_head, keys[None], values[None], is_causal=True, enable_gqa=grouped
        )
        return mixed[0].transpose(0, 1)
    before = segment.context - segment.count
    pieces = []
    # In pieces, so that few of the tokens behind a row are multiplied only to be hidden.
    for at in range(0, segment.count, _PIECE):
        count = min(_PIECE, segment.count - at)
        seen = before + at + count
        mixed = F.scaled_dot_product_attention(
            by_head.narrow(2, at, count),
            keys[None, :, :seen],
            values[None, :, :seen],
            attn_mask=segment.mask[at : at + count, :seen],
            enable_gqa=grouped,
        )
        pieces.append(mixed[0].transpose(0, 1))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _fused(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, run: Run
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over a whole run, read in place; with its log-sum-exps."""
    place, count = run
    found: tuple[torch.Tensor, torch.Tensor] = _FLASH(
        query, keys.narrow(1, place, count)[None], values.narrow(1, place, count)[None]
    )
    return found


def _weighed(
    first: torch.Tensor, first_sums: torch.Tensor, other: torch.Tensor, other_sums: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two parts of one attention, each normalized by itself, as the whole."""
    sums = torch.logaddexp(first_sums, other_sums)
    mixed = first * (first_sums - sums).exp_()[..., None]
    return mixed.addcmul_(other, (other_sums - sums).exp_()[..., None]), sums


def _joined(
    keys: torch.Tensor, values: torch.Tensor, runs: Sequence[Run]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens of some runs as ``[kv_heads, tokens, dim]``; views where it is one run."""
    found = [(keys.narrow(1, *run), values.narrow(1, *run)) for run in runs]
    if len(found) == 1:
        return found[0]
    return torch.cat([pair[0] for pair in found], dim=1), torch.cat([pair[1] for pair in found], 1)
