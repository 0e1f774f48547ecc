"""Tally: what the threads of a download have written, told to one caller. It fetches nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from aquila2_runtime.checkpoint.hub_files import Progress


class Reporter:
    """Adds up what all threads have written, and passes a failure on to all of them.

    Args:
        progress: Called with "downloading", bytes done and bytes in all, from any thread.

    Attributes:
        total: Bytes in all.
        failure: What ends the download; the threads raise it at their next chunk.
        callers: What ``progress`` itself raised.
    """

    def __init__(self, progress: Progress | None) -> None:
        self.total = 0
        self.failure: BaseException | None = None
        self.callers: BaseException | None = None
        self._progress = progress
        self._done = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count bytes (a negative number takes some back); raises what ended the download."""
        self.check()
        with self._lock:
            self._done += count
            self._tell(self._done)

    def finish(self) -> None:
        """Everything is there."""
        with self._lock:
            self._tell(self.total)

    def check(self) -> None:
        """Raise what ended the download, if something did."""
        if self.failure is not None:
            raise self.failure

    def _tell(self, done: int) -> None:
        if self._progress is None:
            return
        try:
            self._progress("downloading", max(0, min(done, self.total)), self.total)
        except BaseException as error:
            self.failure = self.callers = self.failure or error
            raise


class Part:
    """One file's share of what is counted."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._count = 0

    def add(self, count: int) -> None:
        """Count bytes of this file."""
        self._count += count
        self._reporter.add(count)

    def set(self, count: int) -> None:
        """Correct the count to what is really there."""
        self.add(count - self._count)


def bar_class(add: Callable[[int], None]) -> type[Any]:
    """Return a silent progress bar for the hub client.

    Args:
        add: Told of bytes written; of the several bars the client shows, one counts those.
    """
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc, unused-ignore]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            described = str(kwargs.get("desc") or "")
            self._counts = kwargs.get("unit") == "B" and "Downloading" not in described
            silent = {**kwargs, "disable": True}
            super().__init__(*args, **silent)  # type: ignore[no-untyped-call, unused-ignore]

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts:
                add(int(n or 0))
            return None

    return Bar
