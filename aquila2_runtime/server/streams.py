"""Answers that end when their reader goes: server-sent events, and waiting for a whole answer.

An abandoned answer costs nothing more: its request is aborted. Events are those of
https://html.spec.whatwg.org/multipage/server-sent-events.html, as OpenAI sends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from starlette.responses import Response

from aquila2_runtime.server.failures import body_of

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from aquila2_runtime.outputs import Delta, Usage

T = TypeVar("T")
_DONE: Final = b"data: [DONE]\n\n"
# A comment; readers pass over it. It tells proxies, too, that somebody is still there.
_PING: Final = b": still working\n\n"
# Not by the standard, but by the readers of lines that many clients use, these end a line.
_LINE_ENDS: Final = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class ReaderGoneError(Exception):
    """The client closed its connection; there is nobody to tell."""


class Writer(Protocol):
    """Writes the pieces of an answer."""

    def opening(self) -> dict[str, Any] | None:
        """The piece before the first token, if there is one."""

    def piece(self, delta: Delta) -> dict[str, Any]:
        """What became of the answer since the piece before."""

    def counts(self, counted: Usage) -> dict[str, Any]:
        """The piece that carries the token counts."""


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Do some work, and stop it when the client leaves.

    Args:
        receive: Of the request, whose body has been read.
        work: What to do.

    Raises:
        ReaderGoneError: The client left.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ReaderGoneError
        return await task
    finally:
        for each in (task, gone):
            each.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await asyncio.gather(task, gone, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """An answer as it is made.

    Its first token, or a refusal, is waited for a while before the status is sent, so that what is
    wrong with a request is told by its status as for whole answers.

    Args:
        first: What was waited for.
        deltas: The rest.
        writer: Writes the pieces.
        ping_seconds: After so long without a token it says that it is still there.
        counted: Whether a last piece carries the token counts.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        first: asyncio.Future[Delta],
        deltas: AsyncGenerator[Delta],
        writer: Writer,
        *,
        ping_seconds: float,
        counted: bool,
    ) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._waiting, self._deltas, self._writer = first, deltas, writer
        self._ping_seconds, self._counted = ping_seconds, counted

    @classmethod
    async def opened(
        cls, deltas: AsyncGenerator[Delta], writer: Writer, *, ping_seconds: float, counted: bool
    ) -> EventStream:
        """Wait for the first token or a refusal, but not for long.

        Raises:
            Aquila2Error: The request was refused, or failed at once.
        """
        first = asyncio.ensure_future(anext(deltas))
        try:
            await asyncio.wait({first}, timeout=ping_seconds)
            if first.done():
                first.result()
        except BaseException:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await deltas.aclose()
            raise
        return cls(first, deltas, writer, ping_seconds=ping_seconds, counted=counted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it, or until the client leaves."""
        try:
            with contextlib.suppress(ReaderGoneError):
                await unless_gone(receive, self._send_all(send))
        finally:
            # Here, so that nothing is left running however early it ends.
            self._waiting.cancel()
            await asyncio.gather(self._waiting, return_exceptions=True)
            await self._deltas.aclose()

    async def _send_all(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        async with contextlib.aclosing(self._events()) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncGenerator[bytes]:
        # OpenAI's pieces have "usage" where counts are asked for, and only the last has any.
        uncounted: dict[str, Any] = {"usage": None} if self._counted else {}
        opening = self._writer.opening()
        if opening is not None:
            yield _event(opening | uncounted)
        try:
            async with contextlib.aclosing(self._pinged()) as deltas:
                async for delta in deltas:
                    if delta is None:
                        yield _PING
                        continue
                    yield _event(self._writer.piece(delta) | uncounted)
                    if delta.usage is not None and self._counted:
                        yield _event(self._writer.counts(delta.usage))
        except Exception as error:
            yield _event(body_of(error))
            return
        yield _DONE

    async def _pinged(self) -> AsyncGenerator[Delta | None]:
        """The deltas, and None whenever none came for a while."""
        while True:
            await asyncio.wait({self._waiting}, timeout=self._ping_seconds)
            if not self._waiting.done():
                yield None
                continue
            try:
                delta = self._waiting.result()
            except StopAsyncIteration:
                return
            yield delta
            self._waiting = asyncio.ensure_future(anext(self._deltas))


def _event(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"data: {text.translate(_LINE_ENDS)}\n\n".encode()
