"""Calling all eight endpoints alike, recording events, and a small real embedding."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.callbacks.schema import CBEventType
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent

from aquila2_runtime import Aquila2Runtime
from llamaindex_aquila2 import Aquila2

Response = ChatResponse | CompletionResponse

ENDPOINTS = (
    "chat",
    "stream_chat",
    "achat",
    "astream_chat",
    "complete",
    "stream_complete",
    "acomplete",
    "astream_complete",
)
STREAMS = tuple(name for name in ENDPOINTS if "stream" in name)
QUESTION = "Project Falcon's code is Q7-Green. What is the code of Project Falcon?"


def argument(endpoint: str, text: str) -> Any:
    """What an endpoint takes for one question."""
    return [ChatMessage(text)] if "chat" in endpoint else text


async def aask(llm: Aquila2, endpoint: str, given: Any, **kwargs: Any) -> list[Response]:
    """All responses of an async endpoint, in order."""
    result = await getattr(llm, endpoint)(given, **kwargs)
    return [item async for item in result] if "stream" in endpoint else [result]


def ask(llm: Aquila2, endpoint: str, text: Any = QUESTION, **kwargs: Any) -> list[Response]:
    """All responses of any endpoint, in order: one, or one per chunk."""
    given = argument(endpoint, text) if isinstance(text, str) else text
    if endpoint.startswith("a"):
        return asyncio.run(aask(llm, endpoint, given, **kwargs))
    result = getattr(llm, endpoint)(given, **kwargs)
    return list(result) if "stream" in endpoint else [result]


def text_of(response: Response) -> str:
    """A response's text so far."""
    if isinstance(response, ChatResponse):
        return response.message.content or ""
    return response.text


def usage_of(response: Response) -> dict[str, int]:
    """A response's counts."""
    return response.raw["usage"]


def wait_until_idle(runtime: Aquila2Runtime) -> None:
    """Wait until nothing runs; a hang guard, not a measurement."""
    deadline = time.monotonic() + 20
    while True:
        stats = runtime.stats()
        if stats.running == stats.waiting == stats.blocks_in_use == 0:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"still busy: {stats}")
        time.sleep(0.005)


class LLMEvents(BaseCallbackHandler):
    """Remembers starts and ends of LLM events."""

    def __init__(self) -> None:
        super().__init__([], [])
        self.starts: list[dict[str, Any]] = []
        self.ends: list[dict[str, Any]] = []

    def on_event_start(
        self, event_type: CBEventType, payload: Any = None, event_id: str = "", **kwargs: Any
    ) -> str:
        if event_type is CBEventType.LLM:
            self.starts.append(payload)
        return event_id

    def on_event_end(
        self, event_type: CBEventType, payload: Any = None, event_id: str = "", **kwargs: Any
    ) -> None:
        if event_type is CBEventType.LLM:
            self.ends.append(payload)

    def start_trace(self, trace_id: str | None = None) -> None:
        """Nothing to do."""

    def end_trace(self, trace_id: str | None = None, trace_map: Any = None) -> None:
        """Nothing to do."""


class EventNames(BaseEventHandler):
    """Remembers the names of instrumentation events."""

    names: list[str] = []  # noqa: RUF012 - a pydantic field, copied per object

    @classmethod
    def class_name(cls) -> str:
        return "EventNames"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self.names.append(event.class_name())


class NGramEmbedding(BaseEmbedding):
    """Hashed character n-grams: deterministic, offline, good enough to find the right passage."""

    dimensions: int = 512

    def _embed(self, text: str) -> list[float]:
        vector = [0.0] * self.dimensions
        lowered = f" {text.lower()} "
        for size in (1, 2, 3):
            for start in range(len(lowered) - size + 1):
                gram = lowered[start : start + size].encode()
                digest = hashlib.blake2b(gram, digest_size=4).digest()
                vector[int.from_bytes(digest, "big") % self.dimensions] += size**2
        # Damped, so that the letters every text has do not drown the rest.
        vector = [math.log1p(value) for value in vector]
        norm = math.sqrt(sum(value * value for value in vector)) or 1.0
        return [value / norm for value in vector]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._embed(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed(text)


MakeLLM = Callable[..., Aquila2]
