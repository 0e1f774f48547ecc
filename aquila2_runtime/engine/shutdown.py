"""Leaving the interpreter with models loaded. It knows engines only as something to close.

A daemon thread that still runs while the interpreter is torn down can crash the process, so the
exit waits for all of them, those too whose engines are closed or collected and only tidying up.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aquila2_runtime.engine.base import Engine

JOIN_SECONDS: Final = 30.0

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def close_at_exit(engine: Engine, thread: threading.Thread) -> None:
    """Close an engine when the interpreter exits, and wait for its thread."""
    _engines.add(engine)
    _threads.add(thread)


@atexit.register
def _close_engines() -> None:
    for engine in list(_engines):
        with contextlib.suppress(Exception):
            engine.close()
    for thread in list(_threads):
        thread.join(JOIN_SECONDS)
