"""RequestHandle: the reader's end of one request. It hands over between threads; no policy."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from typing import TYPE_CHECKING

from aquila2_runtime.engine.base import Chunk, Finished, IdLogprob, Started

if TYPE_CHECKING:
    from aquila2_runtime.engine.base import Engine


class Mailbox:
    """What the engine writes and one reader reads; bounded by the request's own max_tokens.

    The engine never waits for a reader, and a reader that goes away holds nothing up.
    """

    def __init__(self, *, quiet: bool, bell: threading.Event | None = None) -> None:
        self._bell = bell
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._chunk = Chunk()
        self._error: BaseException | None = None
        self._ended = False
        self._quiet = quiet
        self._sleeper: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    def put(self, token_id: int, logprob: IdLogprob | None) -> None:
        """Add one id (engine side)."""
        with self._lock:
            self._chunk.token_ids.append(token_id)
            if logprob is not None:
                self._chunk.logprobs.append(logprob)
            if not self._quiet:
                self._wake()

    def put_prefilled(self, tokens: int) -> None:
        """Say how far the prompt is read (engine side)."""
        with self._lock:
            self._chunk.prefilled = tokens
            self._wake()

    def start(self, started: Started) -> None:
        """Say what is known once the first id is there; travels with it (engine side)."""
        with self._lock:
            self._chunk.started = started

    def put_prompt_logprobs(self, logprobs: list[IdLogprob]) -> None:
        """Add the prompt's log-probabilities; they travel with the first id (engine side)."""
        with self._lock:
            self._chunk.prompt_logprobs = logprobs

    def finish(self, finished: Finished) -> None:
        """End the request (engine side); later writes are ignored."""
        with self._lock:
            if not self._ended:
                self._ended = True
                self._chunk.finished = finished
                self._wake()

    def fail(self, error: BaseException) -> None:
        """End the request with an error (engine side)."""
        with self._lock:
            if not self._ended:
                self._ended = True
                self._error = error
                self._wake()

    def read(self) -> Chunk:
        """Wait for news and take all of it."""
        with self._lock:
            while not self._ready():
                self._arrived.wait()
            return self._take()

    def poll(self) -> Chunk | None:
        """Take what has arrived, or None."""
        with self._lock:
            return self._take() if self._ready() else None

    async def aread(self) -> Chunk:
        """The same without blocking the event loop."""
        loop = asyncio.get_running_loop()
        while True:
            with self._lock:
                if self._ready():
                    return self._take()
                sleeper: asyncio.Future[None] = loop.create_future()
                self._sleeper = (loop, sleeper)
            try:
                await sleeper
            finally:
                with self._lock:
                    self._sleeper = None

    def _ready(self) -> bool:
        if self._ended or self._chunk.prefilled is not None:
            return True
        return not self._quiet and bool(self._chunk.token_ids)

    def _take(self) -> Chunk:
        chunk = self._chunk
        # Tokens that came before an error are delivered first, then the error.
        if self._error is not None and not chunk.token_ids:
            raise self._error
        self._chunk = Chunk()
        if self._error is not None and self._bell is not None:
            # The error still waits behind these ids, and nothing else will ring for it.
            self._bell.set()
        return chunk

    def _wake(self) -> None:
        self._arrived.notify_all()
        if self._bell is not None:
            self._bell.set()
        if self._sleeper is not None:
            loop, sleeper = self._sleeper
            self._sleeper = None
            # RuntimeError: the reader's loop is closed, so nobody is waiting any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, sleeper)


def _settle(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


class RequestHandle:
    """One request as its reader sees it: read chunks until one is finished, or abort.

    Losing the last reference aborts the request.

    Args:
        engine: Where the request runs.
        request_id: Its number there.
        mailbox: Where its ids arrive.
    """

    def __init__(self, engine: Engine, request_id: int, mailbox: Mailbox) -> None:
        self.request_id = request_id
        self._mailbox = mailbox
        self._finalizer = weakref.finalize(self, engine.abort, request_id)
        # At exit the engine is closed as a whole; aborting into it would race.
        self._finalizer.atexit = False

    def read(self) -> Chunk:
        """Wait for new ids and take them.

        Raises:
            EngineError: The request or the engine failed.
        """
        return self._seen(self._mailbox.read())

    async def aread(self) -> Chunk:
        """Wait for new ids without blocking the event loop, and take them."""
        return self._seen(await self._mailbox.aread())

    def poll(self) -> Chunk | None:
        """Take new ids if there are any; the request's bell rings when it is worth asking."""
        chunk = self._mailbox.poll()
        return None if chunk is None else self._seen(chunk)

    def abort(self) -> None:
        """End the request within two steps; does nothing when it has ended."""
        self._finalizer()

    def _seen(self, chunk: Chunk) -> Chunk:
        if chunk.finished is not None:
            self._finalizer.detach()
        return chunk
