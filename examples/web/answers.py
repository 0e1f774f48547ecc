"""Answers as events: what the model says about a document or in a conversation, as it says it.

An event is a dictionary: ``read`` (tokens read, tokens in all), ``delta`` (new text), ``sources``,
``notices`` (what was changed in the prompt), ``end`` (why it ended), or ``error`` (a code that the
page explains). Whoever stops reading stops the model.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from aquila2_runtime import (
    Aquila2Error,
    Aquila2Runtime,
    ContextOverflowError,
    EngineBusyError,
    Message,
    OutOfMemoryError,
    SamplingParams,
)
from llamaindex_aquila2.long_document import LongDocument, Source

_log = logging.getLogger(__name__)

Event = dict[str, Any]
Tell = Callable[[str, int, int], None]
CODES: dict[type[Aquila2Error], str] = {
    ContextOverflowError: "too_long",
    EngineBusyError: "busy",
    OutOfMemoryError: "memory",
}


async def about(document: LongDocument, question: str, tell: Tell) -> AsyncGenerator[Event]:
    """Answer a question about a document, then say which passages it rests on."""
    async with contextlib.aclosing(document.astream(question, progress=tell)) as pieces:
        async for answer in pieces:
            if answer.delta:
                yield {"delta": answer.delta}
    best = sorted(answer.sources, key=lambda source: -(source.score or 0))
    yield {"sources": [_shown(source) for source in best if source.start is not None]}
    yield {"end": str(answer.raw["finish_reason"])}


async def chatting(
    runtime: Aquila2Runtime, messages: Sequence[Message], params: SamplingParams, tell: Tell
) -> AsyncGenerator[Event]:
    """Go on with a conversation; its oldest turns are left out where it is too long."""
    answer = runtime.astream_chat(messages, params, fit="drop_oldest", progress=tell)
    async with contextlib.aclosing(answer) as pieces:
        async for delta in pieces:
            if delta.text:
                yield {"delta": delta.text}
    if delta.notices:
        yield {"notices": list(delta.notices)}
    yield {"end": str(delta.finish_reason)}


async def events(answer: Callable[[Tell], AsyncGenerator[Event]]) -> AsyncGenerator[Event]:
    """Pass on what an answer yields, and what it tells meanwhile about reading the prompt."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Event | None] = asyncio.Queue()

    def tell(_: str, done: int, total: int) -> None:
        loop.call_soon_threadsafe(queue.put_nowait, {"read": [done, total]})

    async def produce() -> None:
        try:
            async with contextlib.aclosing(answer(tell)) as pieces:
                async for piece in pieces:
                    queue.put_nowait(piece)
        except Aquila2Error as error:
            code = next((CODES[kind] for kind in CODES if isinstance(error, kind)), "failed")
            queue.put_nowait({"error": code, "detail": str(error)})
        except Exception:
            _log.exception("an answer failed")
            queue.put_nowait({"error": "failed"})
        finally:
            queue.put_nowait(None)

    task = asyncio.create_task(produce())
    try:
        while (event := await queue.get()) is not None:
            yield event
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _shown(source: Source) -> Event:
    return {"page": source.page, "start": source.start, "end": source.end, "text": source.text}
