"""Waiting for a runtime to rest; calls and records are the conformance suite's own."""

from __future__ import annotations

import time
from collections.abc import Callable

from aquila2_runtime import Aquila2Runtime
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.conformance.calls import (
    ENDPOINTS,
    QUESTION,
    STREAMS,
    aask,
    argument,
    ask,
    text_of,
    usage_of,
)
from llamaindex_aquila2.conformance.recording import EventNames, LLMEvents
from llamaindex_aquila2.conformance.texts import NGramEmbedding

__all__ = [
    "ENDPOINTS",
    "QUESTION",
    "STREAMS",
    "EventNames",
    "LLMEvents",
    "MakeLLM",
    "NGramEmbedding",
    "aask",
    "argument",
    "ask",
    "text_of",
    "usage_of",
    "wait_until_idle",
]

MakeLLM = Callable[..., Aquila2]


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
