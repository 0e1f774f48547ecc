"""Concurrency: what the suite cannot count without knowing our engine; the rest is in the suite."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage

from aquila2_runtime import Aquila2Runtime, ContextOverflowError
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.conformance.concurrency import PROMPTS
from llamaindex_aquila2.conformance.texts import document
from llamaindex_aquila2.conformance.timing import least, longest_pause
from tests.llamaindex.scripted import scripted_runtime
from tests.llamaindex.support import QUESTION, MakeLLM, argument, wait_until_idle

# What the bar says: seconds, and steps of the engine.
MOST_PAUSE = 0.05
MOST_STEPS = 2
STREAMS = ("stream_chat", "stream_complete")
LEAVINGS: dict[str, Callable[[Any], object]] = {
    "closed": lambda stream: stream.close(),
    "dropped": lambda stream: None,
}


class ThreadAsked(Exception):
    """A thread was asked for."""


async def leave(llm: Aquila2, leaving: str, steps: Callable[[], int]) -> int:
    """Leave an async call that is being computed; the steps made by then."""
    if leaving in {"cancel", "wait_for"}:
        task = asyncio.create_task(llm.achat([ChatMessage(QUESTION)]))
        before = steps()
        while steps() == before:
            await asyncio.sleep(0.001)
        if leaving == "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(task, 0.001)
            return steps()
        begun = steps()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return begun
    stream: Any = await llm.astream_chat([ChatMessage(QUESTION)])
    await anext(stream)
    begun = steps()
    if leaving == "aclose":
        await stream.aclose()
    del stream
    gc.collect(1)
    # asyncio closes a generator that was dropped in a turn of its loop.
    await asyncio.sleep(0)
    return begun


class TestCSteps:
    """Steps that the engine still makes; it may make one while it is told, hence two."""

    @pytest.mark.parametrize("endpoint", STREAMS)
    @pytest.mark.parametrize("leaving", LEAVINGS)
    def test_c7_an_abandoned_stream_takes_two_more_steps_at_most(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime, endpoint: str, leaving: str
    ) -> None:
        """C1: and frees its place in the cache."""
        llm = make_llm(max_tokens=1_500, ignore_eos=True)

        def steps_after() -> float:
            stream = getattr(llm, endpoint)(argument(endpoint, QUESTION))
            next(stream)
            begun = demo_runtime.stats().decode_steps
            LEAVINGS[leaving](stream)
            del stream
            gc.collect(1)
            wait_until_idle(demo_runtime)
            return demo_runtime.stats().decode_steps - begun

        assert least(steps_after, MOST_STEPS) <= MOST_STEPS

    @pytest.mark.parametrize("leaving", ["aclose", "dropped", "cancel", "wait_for"])
    def test_c7_an_abandoned_async_call_takes_two_more_steps_at_most(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime, leaving: str
    ) -> None:
        """C1: the same."""
        llm = make_llm(max_tokens=1_500, ignore_eos=True)

        def steps() -> int:
            return demo_runtime.stats().decode_steps

        def steps_after() -> float:
            begun = asyncio.run(leave(llm, leaving, steps))
            wait_until_idle(demo_runtime)
            return steps() - begun

        assert least(steps_after, MOST_STEPS) <= MOST_STEPS

    async def test_c9_concurrent_calls_share_steps(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime
    ) -> None:
        """C7: eight at once are computed together."""
        llm = make_llm(max_tokens=48, ignore_eos=True)
        before = demo_runtime.stats()
        await asyncio.gather(*(llm.acomplete(prompt) for prompt in PROMPTS))
        after = demo_runtime.stats()
        rows = after.decode_rows - before.decode_rows
        assert rows / (after.decode_steps - before.decode_steps) > 2


class TestCThreads:
    """C8: which calls ask for a thread to be prepared in."""

    @pytest.fixture(autouse=True)
    def threadless(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No thread can be asked for."""

        async def refuse(*args: Any, **kwargs: Any) -> None:
            raise ThreadAsked

        monkeypatch.setattr(asyncio, "to_thread", refuse)

    async def test_c8_a_brief_prompt_to_a_loaded_model_needs_none(self, llm: Aquila2) -> None:
        llm.warmup()
        assert (await llm.achat([ChatMessage(QUESTION)])).message.content
        assert (await llm.acomplete(QUESTION)).text
        assert [piece async for piece in await llm.astream_chat([ChatMessage(QUESTION)])]
        assert [piece async for piece in await llm.astream_complete(QUESTION)]

    @pytest.mark.parametrize(
        "fields",
        [
            {"messages_to_prompt": lambda messages: QUESTION},
            {"completion_to_prompt": lambda prompt: QUESTION},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    async def test_c8_functions_of_the_callers_own_run_beside_the_loop(
        self, make_llm: MakeLLM, fields: dict[str, Any]
    ) -> None:
        llm = make_llm(**fields).warmup()
        with pytest.raises(ThreadAsked):
            await llm.achat([ChatMessage(QUESTION)])

    async def test_c8_long_texts_are_read_beside_the_loop(self, llm: Aquila2) -> None:
        llm.warmup()
        with pytest.raises(ThreadAsked):
            await llm.achat([ChatMessage(QUESTION)] * 100)
        with pytest.raises(ThreadAsked):
            await llm.acomplete(QUESTION * 100)

    async def test_c8_a_model_loads_beside_the_loop(self, spec: dict[str, Any]) -> None:
        with pytest.raises(ThreadAsked):
            await Aquila2(**spec, max_model_len=64).acomplete(QUESTION)


class TestCLoop:
    """C8: the event loop, while prompts of a large context are prepared."""

    @pytest.mark.parametrize("fit", [None, "drop_oldest", "middle"])
    def test_c6_long_prompts_are_prepared_beside_the_loop(
        self, demo_runtime: Aquila2Runtime, fit: str | None
    ) -> None:
        """Of 300,000 characters, refused or shortened; the tokenizer once held the loop up."""
        runtime, _ = scripted_runtime(demo_runtime, 16_384, 0)
        llm = Aquila2.from_runtime(runtime, fit=fit, max_tokens=4)
        text = document("mixed", 300_000, 6)
        pieces = [text[at : at + 3_000] for at in range(0, len(text), 3_000)]
        turns = [ChatMessage(piece) for piece in (pieces if fit == "drop_oldest" else [text])]

        async def together() -> float:
            async def ask() -> None:
                if fit is not None:
                    await llm.achat(turns)
                    return
                with pytest.raises(ContextOverflowError):
                    await llm.achat(turns)

            return await longest_pause(asyncio.gather(ask(), ask()))

        assert least(lambda: asyncio.run(together()), MOST_PAUSE) <= MOST_PAUSE
