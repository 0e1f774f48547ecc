"""A server on a free port of this machine, asked by OpenAI's own client and by plain HTTP."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import openai
import pytest
import uvicorn

from aquila2_runtime import Aquila2Runtime
from aquila2_runtime.server import ServerSettings, create_app
from aquila2_runtime.server.connections import Connection

KEY = "a-key-of-tests"
DOCUMENT = "The office of Oak Ltd is in Graz. Its director is Vera Noll."


def serving(
    runtime: Aquila2Runtime, settings: ServerSettings | None = None
) -> AbstractContextManager[int]:
    """Serve a runtime while it is open; gives the port."""
    return running(create_app(runtime, settings))


@contextmanager
def running(app: Any, **options: Any) -> Iterator[int]:
    """Run an application while it is open; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        asked = {"log_config": None, "lifespan": "off", "http": Connection, "ws": "none"}
        config = uvicorn.Config(app, **asked | options)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(30)
        assert not thread.is_alive()


class Raw:
    """The server by plain HTTP."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """Ask; gives status, headers and what the JSON of the answer says."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, sent, {"Content-Type": "application/json"} | named)
            answer = connection.getresponse()
            text = answer.read().decode()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, json.loads(text) if text else None
        finally:
            connection.close()

    def chat(self, **fields: Any) -> tuple[int, dict[str, str], Any]:
        """Ask for an answer to a conversation."""
        body = {"model": "aquila2-demo", "messages": [{"role": "user", "content": "Hello!"}]}
        return self("POST", "/v1/chat/completions", body | {"max_tokens": 4} | fields)


@pytest.fixture(scope="module")
def port(demo_runtime: Aquila2Runtime) -> Iterator[int]:
    """The demo checkpoint, served to this machine without a key."""
    with serving(demo_runtime, ServerSettings(served_name="aquila2-demo")) as found:
        yield found


@pytest.fixture(scope="module")
def client(port: int) -> Iterator[Any]:
    """OpenAI's client of it."""
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none") as made:
        yield made


@pytest.fixture(scope="module")
def raw(port: int) -> Raw:
    """The same by plain HTTP."""
    return Raw(port)


@pytest.fixture
def chat(client: Any) -> Callable[..., Any]:
    """Ask greedily through OpenAI's client; a text is one user's message."""

    def ask(messages: Any, **fields: Any) -> Any:
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        greedy = {"model": "aquila2-demo", "temperature": 0, "max_tokens": 40}
        return client.chat.completions.create(messages=messages, **greedy | fields)

    return ask
