"""Rows of LlamaIndex's table about calls: the loop, leaving, errors, events, counts.

It knows llama_index.core, the server and no class: which one it is, is given.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler

from benchmarks.peers.protocols import Answer, Json
from benchmarks.peers.server import Server
from benchmarks.report import tried
from llamaindex_aquila2.conformance.calls import ENDPOINTS, QUESTION, STREAMS, ask
from llamaindex_aquila2.conformance.recording import recording

LONG = Answer(tuple(f"word{number} " for number in range(2_000)), pause=0.02)
BROKEN = {"message": "broken kernel", "type": "server_error", "code": None}


@dataclass(frozen=True)
class Peer:
    """One class: its name, whom it asks, how it is made, its word for the longest answer."""

    name: str
    server: Server
    make: Callable[..., Any]
    limit: str

    def body(self) -> Json:
        """The last request, Ollama's options beside everything else."""
        body = self.server.asked[-1].body
        return {**body.get("options", {}), **body}

    def each(self, see: Callable[[str], Any], endpoints: tuple[str, ...] = ENDPOINTS) -> Json:
        """What is seen of each endpoint; one entry where all are the same."""
        found = {one: tried(see, one) for one in endpoints}
        return {"every endpoint": found[endpoints[0]]} if len(set(found.values())) == 1 else found


def free_loop(peer: Peer) -> Json:
    peer.server.says(Answer(pause=0.4))

    async def widest(work: Awaitable[Any]) -> float:
        task, gap, last = asyncio.ensure_future(work), 0.0, time.monotonic()
        while not task.done():
            await asyncio.sleep(0.005)
            gap, last = max(gap, time.monotonic() - last), time.monotonic()
        return gap

    async def streamed(llm: Any) -> None:
        async for _ in await llm.astream_chat([ChatMessage(QUESTION)]):
            pass

    async def both() -> Json:
        llm = peer.make()
        await llm.achat([ChatMessage(QUESTION)])  # what the first call sets up is not meant
        gaps = {"achat": await widest(llm.achat([ChatMessage(QUESTION)]))}
        gaps["astream_chat"] = await widest(streamed(llm))
        return {name: f"held up for {gap:.2f} s at most" for name, gap in gaps.items()}

    return asyncio.run(both())


def at_once(peer: Peer) -> Json:
    peer.server.says(Answer(pause=1.5))

    async def eight() -> None:
        llm = peer.make()
        await asyncio.gather(*(llm.achat([ChatMessage(QUESTION)]) for _ in range(8)))

    asyncio.run(eight())
    return {"eight calls, at once": peer.server.most_at_once}


async def left_or_collected(peer: Peer) -> str:
    """When the connection is closed: by itself, or once garbage was collected."""
    told = await peer.server.left()
    if told.startswith("not closed"):
        gc.collect()
        told += f"; once garbage was collected, {await peer.server.left()}"
    return told


def abandoned(peer: Peer) -> Json:
    def left(way: str) -> str:
        peer.server.says(LONG)
        stream = peer.make().stream_chat([ChatMessage(QUESTION)])
        next(stream)
        if way == "closed":
            stream.close()
        del stream
        return asyncio.run(left_or_collected(peer))

    def awaited(way: str) -> str:
        return asyncio.run(aleft(way))

    async def aleft(way: str) -> str:
        peer.server.says(LONG if way != "achat cancelled" else Answer(pause=8))
        llm, messages = peer.make(), [ChatMessage(QUESTION)]
        if way == "achat cancelled":
            task = asyncio.ensure_future(llm.achat(messages))
            await asyncio.sleep(0.5)
            task.cancel()
            await asyncio.wait([task])
        else:
            stream = await llm.astream_chat(messages)
            await anext(stream)
            if way == "astream closed":
                await stream.aclose()
            del stream
        return await left_or_collected(peer)

    found = {f"stream {way}": tried(left, way) for way in ("closed", "dropped")}
    ways = ("astream closed", "astream dropped", "achat cancelled")
    return {**found, **{way: tried(awaited, way) for way in ways}}


def stream_errors(peer: Peer) -> Json:
    error = BROKEN if peer.name == "openai" else "broken kernel"
    answers = {"within": Answer(error={"error": error}), "cut off": Answer(cut=True)}

    def seen(answer: Answer, endpoint: str) -> str:
        peer.server.says(answer)
        began = time.monotonic()
        told = tried(lambda: len(ask(peer.make(), endpoint)))
        return f"{told}, after {time.monotonic() - began:.0f} s, {len(peer.server.asked)} requests"

    return {kind: peer.each(functools.partial(seen, one), STREAMS) for kind, one in answers.items()}


def events(peer: Peer) -> Json:
    peer.server.says(Answer())

    def seen(endpoint: str) -> Any:
        llm = peer.make()
        with recording(llm) as found:
            ask(llm, endpoint)
        return f"{len(found.starts)} starts, {len(found.ends)} ends"

    return peer.each(seen)


def counts(peer: Peer) -> Json:
    peer.server.says(Answer())

    def seen(endpoint: str, **fields: Any) -> Any:
        counter = TokenCountingHandler(tokenizer=lambda text: [0] * 999)
        llm = peer.make(**fields)
        llm.callback_manager = CallbackManager([counter])
        ask(llm, endpoint)
        return counter.prompt_llm_token_count, counter.completion_llm_token_count

    found = {"the server's": (9, 3), **peer.each(seen)}
    if peer.name != "openai":
        return found
    more = {"stream_options": {"include_usage": True}}
    asked_for = peer.each(lambda endpoint: seen(endpoint, additional_kwargs=more))
    return {**found, "with stream_options": asked_for}


ROWS: dict[str, Callable[[Peer], Json]] = {
    "async that leaves the loop free": free_loop,
    "calls at once computed together": at_once,
    "an abandoned call stops": abandoned,
    "errors reach a stream's reader": stream_errors,
    "one pair of events per call": events,
    "exact counts for LlamaIndex's counter": counts,
}
