"""SharedWork: work in pieces, done by all threads that want its result. It starts no thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection


class SharedWork:
    """Pieces of work that whoever comes does some of.

    Args:
        pieces: At least one.
        do: Does a piece; several threads call it at once.
        finish: Called once, when all pieces are done.
    """

    def __init__(
        self, pieces: Collection[int], do: Callable[[int], None], finish: Callable[[], None]
    ) -> None:
        self._pieces = iter(pieces)
        self._left = len(pieces)
        self._do = do
        self._finish = finish
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()

    def join(self) -> None:
        """Do pieces as long as there are any, and wait for the other threads to do theirs.

        Raises:
            BaseException: What went wrong first, in any of the threads.
        """
        try:
            while (piece := self._next()) is not None:
                self._do(piece)
                if self._was_last():
                    self._finish()
                    self._end(None)
        except BaseException as error:
            self._end(error)
        self._over.wait()
        if self._failure is not None:
            raise self._failure

    def _next(self) -> int | None:
        with self._lock:
            return next(self._pieces, None)

    def _was_last(self) -> bool:
        with self._lock:
            self._left -= 1
            return not self._left

    def _end(self, failure: BaseException | None) -> None:
        with self._lock:
            self._failure = self._failure or failure
            self._pieces = iter(())
            if not self._left:
                # What was worked with is held no longer than the work takes.
                del self._do, self._finish
        self._over.set()
