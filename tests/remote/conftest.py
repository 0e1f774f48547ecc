"""The demo checkpoint computed by a server of this machine, and servers that misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime
from aquila2_runtime.server import ServerSettings
from tests.server.conftest import serving

NAME = "served-demo"


@pytest.fixture(scope="session")
def address(demo_runtime: Aquila2Runtime) -> Iterator[str]:
    """Where the demo checkpoint is served, without a key."""
    with serving(demo_runtime, ServerSettings(served_name=NAME)) as port:
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture(scope="session")
def far(address: str, demo_model: str, demo_runtime: Aquila2Runtime) -> Iterator[Aquila2Runtime]:
    """The same checkpoint, asked of that server; do not close it."""
    template = demo_runtime.info.template
    options = {"engine": "openai", "base_url": address, "template": template}
    with Aquila2Runtime.load(demo_model, **options) as runtime:
        yield runtime


class Script:
    """What a misbehaving server does, and what it was asked.

    Attributes:
        models: What it lists; a number is a status.
        answer: Called with the handler for every completion.
        bodies: What completions were asked.
        headers: Of every request.
    """

    def __init__(self) -> None:
        self.models: Any = {"data": [{"id": "m", "max_model_len": 512}]}
        self.answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: None
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []


@contextmanager
def scripted(script: Script) -> Iterator[str]:
    """Serve a script while it is open; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            script.headers.append(dict(self.headers))
            status = script.models if isinstance(script.models, int) else 200
            told = script.models if status == 200 else {"error": {"message": "no"}}
            body = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            script.headers.append(dict(self.headers))
            length = int(self.headers["Content-Length"])
            script.bodies.append(json.loads(self.rfile.read(length)))
            self.close_connection = True
            try:
                script.answer(self)
            except (BrokenPipeError, ConnectionResetError):
                pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def events(*pieces: Any, kind: str = "text/event-stream", status: int = 200) -> Any:
    """An answer of these events; text is sent as it is, all else as JSON."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.end_headers()
        for piece in pieces:
            text = piece if isinstance(piece, str) else f"data: {json.dumps(piece)}\n\n"
            handler.wfile.write(text.encode())
            handler.wfile.flush()

    return answer


def piece(*ids: int, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One piece of an answer."""
    choice = {"index": 0, "text": "x" * len(ids), "token_ids": list(ids), "finish_reason": finish}
    return {"choices": [choice | more]}


DONE = "data: [DONE]\n\n"
