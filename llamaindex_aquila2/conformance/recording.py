"""Recording: what LlamaIndex's events say of the calls of a model. It judges nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index_instrumentation import get_dispatcher


class LLMEvents(BaseCallbackHandler):
    """Remembers starts and ends of LLM events."""

    def __init__(self) -> None:
        super().__init__([], [])
        self.starts: list[dict[str, Any]] = []
        self.ends: list[dict[str, Any]] = []

    def on_event_start(
        self,
        event_type: CBEventType,
        payload: dict[str, Any] | None = None,
        event_id: str = "",
        parent_id: str = "",
        **kwargs: Any,
    ) -> str:
        """Remember a start."""
        if event_type is CBEventType.LLM:
            self.starts.append(payload or {})
        return event_id

    def on_event_end(
        self,
        event_type: CBEventType,
        payload: dict[str, Any] | None = None,
        event_id: str = "",
        **kwargs: Any,
    ) -> None:
        """Remember an end."""
        if event_type is CBEventType.LLM:
            self.ends.append(payload or {})

    def start_trace(self, trace_id: str | None = None) -> None:
        """Nothing to do."""

    def end_trace(
        self, trace_id: str | None = None, trace_map: dict[str, list[str]] | None = None
    ) -> None:
        """Nothing to do."""

    @property
    def prompts(self) -> list[Any]:
        """What was asked, call by call: messages, or texts.

        A class whose ``chat`` calls its ``complete`` fires events for both; one of them counts.
        """
        chats = [start for start in self.starts if EventPayload.MESSAGES in start]
        return [
            start.get(EventPayload.MESSAGES, start.get(EventPayload.PROMPT))
            for start in chats or self.starts
        ]


class EventNames(BaseEventHandler):
    """Remembers the names of instrumentation events."""

    names: list[str] = []  # noqa: RUF012 - a pydantic field, copied per object

    @classmethod
    def class_name(cls) -> str:
        """Return the handler's name."""
        return "EventNames"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Remember an event."""
        self.names.append(event.class_name())


@contextlib.contextmanager
def recording(llm: Any) -> Iterator[LLMEvents]:
    """Record the callback events of a model's calls."""
    # Set last: LlamaIndex gives its default model a callback manager of its own.
    handler, llm.callback_manager = LLMEvents(), CallbackManager([])
    llm.callback_manager.add_handler(handler)
    yield handler


@contextlib.contextmanager
def event_names() -> Iterator[list[str]]:
    """Record the names of all instrumentation events of this process."""
    handler, root = EventNames(), get_dispatcher()
    root.add_event_handler(handler)
    try:
        yield handler.names
    finally:
        root.event_handlers.remove(handler)
