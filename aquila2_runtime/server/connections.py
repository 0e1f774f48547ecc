"""Connections that end when their client does nothing: uvicorn's, with two clocks more.

uvicorn closes a connection that asks for nothing after an answer. It waits for ever for a first
request, for the rest of its headers, and for a client that takes nothing of its answer: a thousand
such clients, who need no key, would leave no place for others.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

_STUCK_SECONDS: Final = 60.0


class Connection(H11Protocol):
    """One client's connection.

    A request's headers must have come within uvicorn's ``timeout_keep_alive``, counted from their
    first byte or from the connection's beginning; bodies have a time limit of their own.

    Attributes:
        stuck_seconds: After so long in which nothing is taken of an answer, it is given up.
    """

    stuck_seconds: ClassVar[float] = _STUCK_SECONDS
    _asking: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait_for_headers()

    def data_received(self, data: bytes) -> None:
        """Take what came; a byte now and then is no reason to wait longer."""
        super().data_received(data)
        self._wait_for_headers()

    def pause_writing(self) -> None:
        """Begin to wait for the client to take something."""
        super().pause_writing()
        self._give_up_later()

    def resume_writing(self) -> None:
        """The client has taken enough."""
        super().resume_writing()
        _cancel(self._stuck)
        self._stuck = None

    def timeout_keep_alive_handler(self) -> None:
        """Close it; what the client has not taken by now it gets some time for."""
        super().timeout_keep_alive_handler()
        self._give_up_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both clocks."""
        super().connection_lost(exc)
        _cancel(self._asking)
        _cancel(self._stuck)

    def _wait_for_headers(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            _cancel(self._asking)
            self._asking = None
        elif self._asking is None and not self.transport.is_closing():
            self._asking = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _give_up_later(self) -> None:
        if self._stuck is None:
            self._stuck = self.loop.call_later(self.stuck_seconds, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
