"""RunAttention: attention on CPU that reads keys and values where they lie, without copies.

Decoding rows are computed together, over the places their tokens lie in. Chunks of prompts are
computed one by one, in tiles: a request's tokens lie in a few runs of consecutive places (the block
pool sees to that), and a run of the cache is a view that torch's fused kernel reads in place.
Either way a row does not depend on what else is in the batch, nor on how its prompt was cut.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch

from aquila2_runtime.engine.attention.base import Attention
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.cascade import add_shared
from aquila2_runtime.engine.attention.columns import ColumnGathering, ColumnListing
from aquila2_runtime.engine.attention.gathering import Gathering, Listing
from aquila2_runtime.engine.attention.plan import AttentionPlan
from aquila2_runtime.engine.attention.runs import Run, runs_of
from aquila2_runtime.engine.attention.tiles import Tiles

AnyListing = Listing | ColumnListing


class _Rows(Protocol):
    """What attends with decoding rows; its listings are its own."""

    def list_rows(self, heads: int, blocks: torch.Tensor, lengths: torch.Tensor) -> Any:
        """List what rows see."""

    def next_token(
        self,
        listing: Any,
        blocks: torch.Tensor,
        lengths: torch.Tensor,
        slots: torch.Tensor,
        *,
        follows: bool = False,
    ) -> Any:
        """The listing of the step after, or None."""

    def attend(
        self, layer: int, query: torch.Tensor, listing: Any, *, sums: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend over what is listed."""

    def seen(
        self, listing: Any, slots: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """What ``ScriptedStep`` takes of a listing."""

    def stored(self) -> Sequence[Sequence[torch.Tensor]]:
        """What ``ScriptedStep`` takes of every layer's keys and values."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Chunk:
    """Consecutive rows of one prompt: which, what the last one sees, and where that lies."""

    start: int
    count: int
    context: int
    runs: list[Run]


class RunAttention(Attention):
    """Reads keys and values in place.

    Args:
        cache: The keys and values: fp32, or bfloat16 with keys in columns as well.
        prompts: What prompts are multiplied in: fp32 or bfloat16 (see ``Tiles``). Decoding rows
            read what is stored: that takes all of their time.
    """

    name: ClassVar[str] = "runs"
    reads_lengths: ClassVar[bool] = True
    # A prefix that one row has read is in the processor's cache for the next: below this, reading
    # it once for all gains nothing.
    least_saved: ClassVar[int] = 8_192

    def __init__(self, cache: PagedKVCache, prompts: torch.dtype = torch.float32) -> None:
        super().__init__(cache)
        self._rows: _Rows = ColumnGathering(cache) if cache.columns else Gathering(cache)
        # Over columns, reading a prefix once for all has not been seen to gain anything.
        self.cascades = not cache.columns
        self._tiles = Tiles(prompts)
        self.tile = self._tiles.size
        self._plan: AttentionPlan | None = None
        self._chunks: list[_Chunk] = []
        self._listing: AnyListing | None = None

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
            self._prepare(plan, query.shape[1])
        self.cache.store(layer, plan.slots, key, value)
        keys, values = self.cache.key_lines[layer], self.cache.value_lines[layer]
        wide = query.float()
        parts: list[torch.Tensor] = []
        if self._listing is not None:
            parts.append(self._decoded(layer, wide[: plan.num_decode], self._listing, plan))
        for chunk in self._chunks:
            rows = wide.narrow(0, chunk.start, chunk.count)
            own = self._joined(keys, chunk), self._joined(values, chunk)
            parts.append(self._tiles.attend(rows, *own, chunk.context))
        mixed = parts[0] if len(parts) == 1 else torch.cat(parts)
        return mixed.to(query.dtype)

    def rows_alone(self, plan: AttentionPlan, heads: int) -> AnyListing | None:
        """What a step's rows see, if they are decoding rows that share no prefix; or None."""
        if plan.prefills or plan.shared:
            return None
        if plan is not self._plan:
            self._prepare(plan, heads)
        return self._listing

    def seen(
        self, listing: AnyListing, slots: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """What ``ScriptedStep`` takes of a listing."""
        return self._rows.seen(listing, slots)

    def stored(self) -> Sequence[Sequence[torch.Tensor]]:
        """What ``ScriptedStep`` takes of every layer's keys and values."""
        return self._rows.stored()

    def _prepare(self, plan: AttentionPlan, heads: int) -> None:
        """What is the same for every layer of a step."""
        size = self.cache.block_size
        self._listing = self._list_rows(plan, heads)
        self._chunks = [
            _Chunk(
                part.start,
                part.count,
                part.context,
                runs_of(part.blocks.tolist(), size, part.context),
            )
            for part in plan.prefills
        ]
        self._plan = plan

    def _list_rows(self, plan: AttentionPlan, heads: int) -> AnyListing | None:
        if plan.decode_blocks is None or plan.decode_lengths is None:
            return None
        seen = plan.decode_blocks, plan.decode_lengths
        following: AnyListing | None = None
        if self._listing is not None:
            slots = plan.slots[: plan.num_decode]
            follows = self._plan is not None and 0 < plan.follows == self._plan.number
            following = self._rows.next_token(self._listing, *seen, slots, follows=follows)
        found: AnyListing = following or self._rows.list_rows(heads, *seen)
        return found

    def _decoded(
        self, layer: int, query: torch.Tensor, listing: AnyListing, plan: AttentionPlan
    ) -> torch.Tensor:
        mixed, sums = self._rows.attend(layer, query, listing, sums=bool(plan.shared))
        if sums is None:
            return mixed
        return add_shared(query, mixed, sums, self.cache, layer, plan.shared)

    def _joined(self, states: torch.Tensor, chunk: _Chunk) -> torch.Tensor:
        """A chunk's context up to a whole tile; a view where nothing has to be done for it."""
        runs, context, tiles = chunk.runs, chunk.context, self._tiles
        places = tiles.padded(context)
        if places == context and len(runs) == 1 and tiles.dtype == states.dtype:
            return states.narrow(1, *runs[0])
        # Zeros at the end, not what lies behind: that is another request's, and 0 * NaN is NaN.
        found = states.new_empty(states.shape[0], places, states.shape[2], dtype=tiles.dtype)
        at = 0
        for run in runs:
            found.narrow(1, at, run[1]).copy_(states.narrow(1, *run))
            at += run[1]
        found.narrow(1, at, places - at).zero_()
        return found
