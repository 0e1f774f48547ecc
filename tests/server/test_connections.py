"""Clients that keep a connection and do nothing: it is taken from them."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from aquila2_runtime.server.connections import Connection
from tests.server.conftest import running

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"


async def _brief(scope: Any, receive: Any, send: Any) -> None:
    """Answers without reading the body, as where a request is refused."""
    await send(
        {"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body"})


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: a\r\nX: ", HEAD, HEAD[:9]])
def test_a_request_that_does_not_end_is_not_waited_for(begun: bytes) -> None:
    with (
        running(_brief, timeout_keep_alive=1) as port,
        socket.create_connection(("127.0.0.1", port), timeout=0.2) as connection,
    ):
        connection.sendall(begun)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                if not connection.recv(4096):
                    return
                connection.sendall(b"a")
            except TimeoutError:
                if begun:
                    connection.sendall(b"a")  # it is never silent for long
            except ConnectionError:
                return
    pytest.fail("The connection was kept.")


def test_requests_that_follow_each_other_are_answered_for_longer_than_one_may_take() -> None:
    with (
        running(_brief, timeout_keep_alive=1) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as connection,
    ):
        for _ in range(5):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 413")
            time.sleep(0.5)


def test_an_answer_of_which_nothing_is_taken_is_given_up() -> None:
    ended = threading.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1_000):
            await send({"type": "http.response.body", "body": b"a" * 100_000, "more_body": True})
        ended.set()

    class Hasty(Connection):
        stuck_seconds = 0.5

    with (
        running(endless, http=Hasty) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert ended.wait(30)
