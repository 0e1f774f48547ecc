"""Calling all endpoints alike, and reading what they give. It knows no class and tests nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse

Response = ChatResponse | CompletionResponse
Result = TypeVar("Result")

ENDPOINTS: Final = (
    "chat",
    "stream_chat",
    "achat",
    "astream_chat",
    "complete",
    "stream_complete",
    "acomplete",
    "astream_complete",
)
CHATS: Final = tuple(name for name in ENDPOINTS if "chat" in name)
COMPLETIONS: Final = tuple(name for name in ENDPOINTS if "complete" in name)
STREAMS: Final = tuple(name for name in ENDPOINTS if "stream" in name)
QUESTION: Final = "Project Falcon's code is Q7-Green. What is the code of Project Falcon?"


def argument(endpoint: str, text: str) -> Any:
    """What an endpoint takes for one question."""
    return [ChatMessage(text)] if "chat" in endpoint else text


async def aask(llm: Any, endpoint: str, given: Any, **kwargs: Any) -> list[Any]:
    """All responses of an async endpoint, in order."""
    result = await getattr(llm, endpoint)(given, **kwargs)
    return [item async for item in result] if "stream" in endpoint else [result]


def ask(llm: Any, endpoint: str, text: Any = QUESTION, **kwargs: Any) -> list[Any]:
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


def usage_of(response: Response) -> Mapping[str, int]:
    """A response's counts, from where LlamaIndex's token counter reads them."""
    raw = response.raw
    if not isinstance(raw, Mapping) or "usage" not in raw:
        pytest.fail(f"raw has no usage, which LlamaIndex's token counter reads: {raw!r:.200}")
    usage: Mapping[str, int] = raw["usage"]
    return usage


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """What a function gives or raises; a failed test where it takes longer.

    It runs in a thread that does not keep the process alive, so that one that hangs is left.
    """
    found: list[Result] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not found:
        pytest.fail(f"nothing came back within {seconds:g} s")
    return found[0]
