"""Counters: what an engine has done and is doing, for ``stats``. It decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aquila2_runtime.engine.base import EngineStats

if TYPE_CHECKING:
    from aquila2_runtime.engine.scheduler import Scheduled, Scheduler


class Counters:
    """Sums over an engine's life, and the snapshot that other threads read."""

    def __init__(self) -> None:
        self.stats = EngineStats()
        self._steps = self._tokens = self._decode_steps = self._decode_rows = self._cached = 0

    def add_step(self, scheduled: Sequence[Scheduled]) -> None:
        """Count a step that has run."""
        if scheduled:
            self._steps += 1
            self._tokens += sum(item.count for item in scheduled)  # drafts count when accepted
            decoded = sum(1 for item in scheduled if item.start >= item.request.num_prompt)
            self._decode_steps += bool(decoded)
            self._decode_rows += decoded

    def add_cached(self, tokens: int) -> None:
        """Count prompt tokens that the prefix cache saved an ended request."""
        self._cached += tokens

    def snapshot(self, scheduler: Scheduler) -> None:
        """Replace ``stats``, in one assignment, by the counts of this moment."""
        pool = scheduler.pool
        self.stats = EngineStats(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            blocks_in_use=pool.num_in_use,
            blocks_total=pool.num_blocks,
            blocks_cached=pool.num_cached,
            steps=self._steps,
            tokens_computed=self._tokens + scheduler.accepted,
            decode_steps=self._decode_steps,
            decode_rows=self._decode_rows,
            cached_tokens=self._cached,
            preemptions=scheduler.preemptions,
            drafted_tokens=scheduler.drafted,
            accepted_tokens=scheduler.accepted,
        )

    def reset_live(self) -> None:
        """Say that nothing runs any more; called when the engine has ended."""
        self.stats = EngineStats(blocks_total=self.stats.blocks_total)
