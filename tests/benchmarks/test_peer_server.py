"""benchmarks/peers/server.py: the answers of its script in both protocols, and who hung up."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.peers.protocols import Answer
from benchmarks.peers.server import Server, serving

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as listening:
        yield listening


def ask(server: Server, path: str, **body: Any) -> tuple[http.client.HTTPConnection, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    return connection, connection.getresponse()


def test_it_answers_in_both_protocols_and_keeps_what_it_was_sent(server: Server) -> None:
    server.says(Answer(("龘", "!")))
    connection, answer = ask(server, "/v1/chat/completions", n=2, seed=3)
    told = json.loads(answer.read())
    connection.close()
    assert [choice["message"]["content"] for choice in told["choices"]] == ["龘!", "龘!"]
    connection, answer = ask(server, "/api/chat", options={"seed": 4})
    lines = [json.loads(line) for line in answer.read().splitlines()]
    connection.close()
    assert "".join(line["message"]["content"] for line in lines) == "龘!"
    assert [line["done"] for line in lines] == [False, False, True]
    assert [asked.body.get("seed") for asked in server.asked] == [3, None]
    assert server.asked[1].body["options"] == {"seed": 4}


def test_a_stream_of_events_ends_with_done_unless_it_is_cut(server: Server) -> None:
    for cut in (False, True):
        server.says(Answer(("a", "b"), cut=cut))
        connection, answer = ask(server, "/v1/chat/completions", stream=True)
        read = b""
        try:
            read = answer.read()
        except http.client.IncompleteRead as error:
            read = error.partial
        connection.close()
        assert read.endswith(b"data: [DONE]\n\n") is not cut
        assert read.count(b'"content"') == 3


@pytest.mark.parametrize("stream", [False, True])
def test_it_sees_that_the_client_hung_up(server: Server, stream: bool) -> None:
    server.says(Answer(("a",) * 100, pause=0.05 if stream else 30))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/v1/chat/completions", json.dumps({"stream": stream}))
    if stream:
        answer = connection.getresponse()
        answer.readline()
        answer.close()
    connection.close()
    deadline = time.monotonic() + 10
    while not (server.asked and server.asked[0].ended) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.asked[0].left is not None
    assert server.asked[0].sent < 100
