"""Noticing that an event loop was closed under a waiting reader. It knows no answers."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aquila2_runtime.engine.handle import RequestHandle

# Longer than any request: the timer is never meant to ring.
_YEARS: Final = 10.0 * 365 * 24 * 3600


class _Canary:
    """Held by its loop's timer and by nothing else."""

    def __call__(self) -> None:
        """Do nothing; the timer needs something to call."""


@contextlib.contextmanager
def aborting_with_loop(handle: RequestHandle) -> Iterator[None]:
    """Abort a request if the running event loop is closed before the block is left.

    A task that is pending when its loop is closed is neither cancelled nor resumed, and the
    request it waits for would run to its end for nobody. asyncio tells nobody that a loop was
    closed, but a closing loop drops its timers, and with the timer set here dies an object whose
    finalizer aborts the request.
    """
    canary = _Canary()
    # Weak, so that losing the handle's last reference still aborts the request.
    finalizer = weakref.finalize(canary, _abort, weakref.ref(handle))
    finalizer.atexit = False
    timer = weakref.ref(asyncio.get_running_loop().call_later(_YEARS, canary))
    del canary
    try:
        yield
    finally:
        finalizer.detach()
        if (waiting := timer()) is not None:
            waiting.cancel()


def _abort(handle: weakref.ref[RequestHandle]) -> None:
    if (found := handle()) is not None:
        found.abort()
