"""Readers that go, and streams that wait: work ends with its reader, and silence is told."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime, GenerationError
from aquila2_runtime.outputs import Delta, FinishReason, Usage
from aquila2_runtime.server import ServerSettings
from aquila2_runtime.server.answers import ChatAnswer
from aquila2_runtime.server.streams import EventStream
from tests.server.conftest import serving
from tests.untrained import untrained_copy

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]


@pytest.fixture(scope="module")
def endless(demo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aquila2Runtime]:
    """A model whose answers, one at a time, go on to their limit: random weights hardly end."""
    path = untrained_copy(demo_path, tmp_path_factory.mktemp("endless") / "model")
    with Aquila2Runtime.load(path, template="aquila-v1", device="cpu", max_num_seqs=1) as runtime:
        yield runtime


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_an_answer_nobody_reads_is_not_made(
    endless: Aquila2Runtime, path: str, stream: bool
) -> None:
    asked = {"messages": [{"role": "user", "content": "Hi"}]} if "chat" in path else {"prompt": "a"}
    body = {"model": "m", "stream": stream, "ignore_eos": True, "max_tokens": 3_000, **asked}
    with serving(endless, ServerSettings(served_name="m")) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        if stream:
            assert connection.getresponse().readline().startswith(b"data: ")
        _until(lambda: endless.stats().running == 1)
        connection.close()
        _until(lambda: endless.stats().running == 0)
    assert endless.stats().blocks_in_use == 0


@pytest.mark.parametrize("stream", [True, False])
def test_one_who_leaves_before_the_first_token_is_not_served(
    endless: Aquila2Runtime, stream: bool
) -> None:
    settings = ServerSettings(served_name="m", ping_seconds=60)
    asked = {"model": "m", "ignore_eos": True, "max_tokens": 3_000}
    first = json.dumps(asked | {"prompt": "a"})
    waiting = json.dumps(asked | {"prompt": "b", "stream": stream})
    headers = {"Content-Type": "application/json"}
    with serving(endless, settings) as port:
        busy = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        busy.request("POST", "/v1/completions", first, headers)
        _until(lambda: endless.stats().running == 1)
        other = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        other.request("POST", "/v1/completions", waiting, headers)
        _until(lambda: endless.stats().waiting == 1)
        other.close()
        _until(lambda: endless.stats().waiting == 0)
        assert endless.stats().running == 1
        busy.close()
        _until(lambda: endless.stats().running == 0)


def _until(holds: Any) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


async def _deltas(*gaps: float, fails: bool = False) -> AsyncGenerator[Delta]:
    for gap in gaps:
        await asyncio.sleep(gap)
        yield Delta(text="a", content="a")
    if fails:
        raise GenerationError("It broke.")
    yield Delta(finish_reason=FinishReason.STOP, usage=Usage(prompt_tokens=1))


async def _told(deltas: AsyncGenerator[Delta], runtime: Aquila2Runtime) -> list[bytes]:
    writer = ChatAnswer(model="m", tokenizer=runtime.tokenizer)
    stream = await EventStream.opened(deltas, writer, ping_seconds=0.05, counted=False)
    sent = list[bytes]()

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    async def receive() -> Any:
        await asyncio.sleep(60)

    await stream({}, receive, send)
    return [event for event in sent if event]


async def test_a_stream_that_waits_says_so(demo_runtime: Aquila2Runtime) -> None:
    events = await _told(_deltas(0.2, 0.2), demo_runtime)
    comments = [event for event in events if event.startswith(b":")]
    assert len(comments) >= 2
    assert events[-1] == b"data: [DONE]\n\n"
    said = [json.loads(e[6:]) for e in events if e.startswith(b"data: {")]
    assert "".join(piece["choices"][0]["delta"].get("content", "") for piece in said) == "aa"


async def test_what_some_readers_take_for_the_end_of_a_line_is_escaped(
    demo_runtime: Aquila2Runtime,
) -> None:
    async def deltas() -> AsyncGenerator[Delta]:
        yield Delta(text="a\x85\u2028b", content="a\x85\u2028b")

    events = b"".join(await _told(deltas(), demo_runtime)).decode()
    said = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: {")]
    assert said[1]["choices"][0]["delta"]["content"] == "a\x85\u2028b"


async def test_a_stream_that_cannot_even_begin_is_closed(demo_runtime: Aquila2Runtime) -> None:
    closed = asyncio.Event()

    async def deltas() -> AsyncGenerator[Delta]:
        try:
            yield Delta(text="a", content="a")
            await asyncio.sleep(60)
        finally:
            closed.set()

    async def send(message: Any) -> None:
        raise ConnectionError

    async def receive() -> Any:
        await asyncio.sleep(60)

    writer = ChatAnswer(model="m", tokenizer=demo_runtime.tokenizer)
    made = deltas()
    stream = await EventStream.opened(made, writer, ping_seconds=5, counted=False)
    with pytest.raises(ConnectionError):
        await stream({}, receive, send)
    assert closed.is_set()


async def test_a_stream_that_fails_on_its_way_tells_it_and_is_not_done(
    demo_runtime: Aquila2Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        events = await _told(_deltas(0.0, fails=True), demo_runtime)
    assert "It broke." in caplog.text
    assert json.loads(events[-1][6:])["error"] == {
        "message": "It broke.",
        "type": "server_error",
        "param": None,
        "code": None,
    }


async def test_what_fails_at_once_is_raised_before_anything_is_sent(
    demo_runtime: Aquila2Runtime,
) -> None:
    deltas = _deltas(fails=True)
    writer = ChatAnswer(model="m", tokenizer=demo_runtime.tokenizer)
    with pytest.raises(GenerationError):
        await EventStream.opened(deltas, writer, ping_seconds=5, counted=False)
