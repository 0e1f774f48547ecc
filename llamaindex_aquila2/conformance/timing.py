"""Timing: seconds that things take, on machines that do other work too. It knows no class.

A bound that a busy machine exceeds is no reason for a wider one. What other programs take is left
out where the system tells (Linux does, thread by thread), and the least of a few tries counts,
since other work only adds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from typing import Final

_TRIES: Final = 3
_BEAT: Final = 0.001
# Time on a processor, time ready for one, and turns, of the thread that opens it.
_SCHEDULER: Final = "/proc/thread-self/schedstat"


def least(measure: Callable[[], float], enough: float) -> float:
    """The least of a few measurements; no more of them than it takes to have enough."""
    found = measure()
    for _ in range(_TRIES - 1):
        if found <= enough:
            break
        found = min(found, measure())
    return found


class Watch:
    """Seconds since it was made, or since the last lap, for the thread that made it.

    Time in which the thread was ready and other programs had the processors does not count. Waiting
    for a lock, for the interpreter's or for an answer does.
    """

    def __init__(self) -> None:
        self._waited = os.open(_SCHEDULER, os.O_RDONLY) if os.path.exists(_SCHEDULER) else None
        self._began = self._now()

    def lap(self) -> float:
        """Seconds since the last lap."""
        before, self._began = self._began, self._now()
        return self._began - before

    def close(self) -> None:
        """Give the file back."""
        if self._waited is not None:
            os.close(self._waited)

    def _now(self) -> float:
        waited = 0 if self._waited is None else int(os.pread(self._waited, 100, 0).split()[1])
        return time.perf_counter() - waited / 1e9


async def longest_pause(work: Awaitable[object]) -> float:
    """How long at most the loop did nothing else while some work was awaited."""
    longest, done = 0.0, False

    async def beat() -> None:
        nonlocal longest
        with contextlib.closing(Watch()) as watch:
            while not done:
                watch.lap()
                await asyncio.sleep(_BEAT)
                longest = max(longest, watch.lap() - _BEAT)

    heart = asyncio.create_task(beat())
    await asyncio.sleep(10 * _BEAT)
    try:
        await work
    finally:
        done = True
        await heart
    return longest
