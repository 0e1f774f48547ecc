"""Companions: requests that one caller makes one by one and that should begin in one step.

A framework runs a batch as many calls, each in a thread or task of its own. The first of them to
reach an idle engine would begin alone, and the others a step later, which reads all the weights
once more. So the caller announces how many are on their way. The engine waits for them as long as
they keep coming, for some milliseconds, and for nobody else: whoever is held up on the way (by a
cache, a rate limiter, an error) holds nobody up. It knows no engine.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

# Longest pause between two of them: what Python lets one thread keep another one waiting.
PAUSE_SECONDS: Final = 0.005
# Longest wait since the first of them.
MOST_SECONDS: Final = 0.02


class Companions:
    """How many are still to come.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._missing = count
        self._until: float | None = None

    def add(self, count: int) -> None:
        """Announce more of them (caller side)."""
        with self._lock:
            self._missing += count

    def arrive(self) -> float:
        """Count one that has arrived (engine side); return how long to wait for the next."""
        now = time.monotonic()
        with self._lock:
            self._missing -= 1
            if self._until is None:
                self._until = now + MOST_SECONDS
            if self._missing <= 0:
                return 0.0
            return max(0.0, min(PAUSE_SECONDS, self._until - now))


# A context variable, because a framework's own code stands between the batch and its requests.
_announced: ContextVar[Companions | None] = ContextVar("announced", default=None)


def announced() -> Companions | None:
    """Return those that a request made here and now is one of."""
    return _announced.get()


@contextlib.contextmanager
def announcing(count: int) -> Iterator[None]:
    """Announce requests; threads and tasks that get a copy of this context make them.

    Args:
        count: How many; a lone one belongs to those that were announced before, if any were.
    """
    token = _announced.set(Companions(count) if count > 1 else _announced.get())
    try:
        yield
    finally:
        _announced.reset(token)
