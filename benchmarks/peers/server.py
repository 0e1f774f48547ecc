"""A server on this machine that answers as OpenAI's and Ollama's do, from a script.

It keeps what was asked of it, and whether the reader left. It knows no client and runs no model.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks.peers import protocols
from benchmarks.peers.protocols import Answer, Json

Script = Callable[[Json], Answer]
PATIENCE = 5.0


@dataclass
class Asked:
    """One request.

    Attributes:
        path: Where it was sent.
        body: What it said.
        came: When, on the monotonic clock.
        left: When the client was seen to have closed the connection before the answer's end.
        sent: How many parts of the answer were sent.
        ended: When the server was done with it.
    """

    path: str
    body: Json
    came: float
    left: float | None = None
    sent: int = 0
    ended: float | None = None


@dataclass
class Server:
    """What both sides see: where it listens, what it is to say, and what it was asked."""

    port: int = 0
    script: Script = field(default=lambda _: Answer())
    asked: list[Asked] = field(default_factory=list)
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def says(self, script: Answer | Script) -> None:
        """Give this answer, or what a function makes of a request, and forget what was asked."""
        self.script = (lambda _: script) if isinstance(script, Answer) else script
        self.asked, self.most_at_once = [], 0

    @contextlib.contextmanager
    def noted(self, path: str, body: Json) -> Iterator[Asked]:
        """Keep a request, and how many there are at a time."""
        asked = Asked(path, body, time.monotonic())
        with self._lock:
            self.asked.append(asked)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            yield asked
        finally:
            asked.ended = time.monotonic()
            with self._lock:
                self._now -= 1

    async def left(self) -> str:
        """When the last request's connection is closed, and what was sent by then.

        It waits on the event loop, which so goes on as it does in a program.
        """
        asked, told = self.asked[-1], time.monotonic()
        while asked.ended is None and time.monotonic() < told + PATIENCE:
            await asyncio.sleep(0.01)
        if asked.left is None:
            return f"not closed after {time.monotonic() - told:.0f} s, {asked.sent} parts sent"
        return f"closed within {max(0.0, asked.left - told):.1f} s, {asked.sent} parts sent"


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Listen on a free port of this machine until the block ends."""
    server = Server()

    class Listening(_Handler):
        state = server

    with ThreadingHTTPServer(("127.0.0.1", 0), Listening) as httpd:
        server.port = httpd.server_address[1]
        thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            httpd.shutdown()
            thread.join(10)


class _Left(Exception):
    """The client closed the connection."""


class _Handler(BaseHTTPRequestHandler):
    """One connection; a client may ask several times over it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what happened is in ``Server.asked``."""

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body: Json = json.loads(self.rfile.read(length) or b"{}")
        kind = "ollama" if self.path.startswith("/api/") else "openai"
        with self.state.noted(self.path, body) as asked:
            try:
                self._answer(kind, asked, self.state.script(body))
            except (_Left, ConnectionError):
                asked.left = time.monotonic()
                self.close_connection = True

    def _answer(self, kind: str, asked: Asked, answer: Answer) -> None:
        if answer.error is not None and answer.status != 200:
            self._whole(answer.status, answer.error)
        elif asked.body.get("stream", kind == "ollama"):
            self._stream(kind, asked, answer)
        else:
            self._wait(answer.pause)
            made = protocols.openai_whole if kind == "openai" else protocols.ollama_whole
            self._whole(200, made(asked.body, answer))

    def _whole(self, status: int, body: Json) -> None:
        text = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _stream(self, kind: str, asked: Asked, answer: Answer) -> None:
        form = "text/event-stream" if kind == "openai" else "application/x-ndjson"
        self.send_response(200)
        self.send_header("Content-Type", form)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        made = protocols.openai_parts if kind == "openai" else protocols.ollama_parts
        # Where it breaks, what would end the answer in good order is left out.
        broken = answer.cut or answer.error is not None
        whole = len(answer.pieces) + (kind == "openai")  # which opens with the role
        for part in itertools.islice(made(asked.body, answer), whole if broken else None):
            self._wait(answer.pause)
            self._write(protocols.frame(kind, part), answer.by_bytes)
            asked.sent += 1
        if answer.cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if answer.error is not None:
            self._write(protocols.frame(kind, answer.error), False)
        if kind == "openai":
            self._write(b"data: [DONE]\n\n", False)
        self.wfile.write(b"0\r\n\r\n")

    def _write(self, data: bytes, by_bytes: bool) -> None:
        for piece in [bytes([byte]) for byte in data] if by_bytes else [data]:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.flush()

    def _wait(self, seconds: float) -> None:
        """Wait so long, or until the client has closed the connection.

        Raises:
            _Left: When it has.
        """
        readable, _, _ = select.select([self.connection], [], [], seconds)
        if readable and not self.connection.recv(1, socket.MSG_PEEK):
            raise _Left
