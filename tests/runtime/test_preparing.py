"""Preparing: brief prompts are read by the event loop itself, long ones in a thread beside it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aquila2_runtime import (
    Aquila2Runtime,
    Choice,
    InvalidPromptError,
    Message,
    SamplingParams,
    Tool,
)
from aquila2_runtime.preparing import BRIEF_CHARACTERS, BRIEF_MESSAGES

ONE = SamplingParams(temperature=0, max_tokens=1)
BRIEF = [Message("user", "Hello!")]
LONG = [Message("user", "a " * BRIEF_CHARACTERS)]


class ThreadAsked(Exception):
    """A thread was asked for."""


@pytest.fixture
def threadless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread can be asked for."""

    async def refuse(*args: Any, **kwargs: Any) -> None:
        raise ThreadAsked

    monkeypatch.setattr(asyncio, "to_thread", refuse)


@pytest.mark.usefixtures("threadless")
async def test_brief_prompts_need_no_thread(demo_runtime: Aquila2Runtime) -> None:
    assert (await demo_runtime.achat(BRIEF, ONE)).token_ids
    assert (await demo_runtime.acomplete("Hello", ONE)).token_ids
    assert [delta async for delta in demo_runtime.astream_chat(BRIEF, ONE)]
    assert [delta async for delta in demo_runtime.astream_complete("Hello", ONE)]
    with pytest.raises(InvalidPromptError):
        await demo_runtime.achat([], ONE)


@pytest.mark.usefixtures("threadless")
@pytest.mark.parametrize(
    ("messages", "params", "request_options"),
    [
        (LONG, ONE, {}),
        ([Message("user", "Hello!", name="a " * BRIEF_CHARACTERS)], ONE, {}),
        (BRIEF * (BRIEF_MESSAGES + 1), ONE, {}),
        (BRIEF, ONE.replace(constraint=Choice(("yes", "no"))), {}),
        (BRIEF, ONE, {"tools": [Tool("now")]}),
    ],
)
async def test_what_may_take_long_is_done_beside_the_loop(
    demo_runtime: Aquila2Runtime,
    messages: list[Message],
    params: SamplingParams,
    request_options: dict[str, Any],
) -> None:
    with pytest.raises(ThreadAsked):
        await demo_runtime.achat(messages, params, **request_options)


@pytest.mark.usefixtures("threadless")
async def test_a_long_text_is_encoded_beside_the_loop(demo_runtime: Aquila2Runtime) -> None:
    with pytest.raises(ThreadAsked):
        await demo_runtime.acomplete("a " * BRIEF_CHARACTERS, ONE)
