"""Async, threads, cancellation: shared steps, free loops, and work that stops when left."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.async_utils import run_async_tasks
from llama_index.core.base.llms.types import ChatMessage

from aquila2_runtime import Aquila2Runtime
from llamaindex_aquila2 import Aquila2
from tests.llamaindex.support import QUESTION, MakeLLM, text_of, wait_until_idle

LONG = {"max_tokens": 1_500, "ignore_eos": True}
PROMPTS = [f"Question {number}: what is {number} plus one? 答案是什么？" for number in range(8)]


def _break_off(stream: Any) -> None:
    for _ in stream:
        break


def _close(stream: Any) -> None:
    next(stream)
    stream.close()


LEAVINGS: dict[str, Callable[[Any], object]] = {
    "never read": lambda stream: None,
    "closed": _close,
    "broken off": _break_off,
    "dropped": next,
}


class TestCConcurrency:
    async def test_the_event_loop_stays_free(self, make_llm: MakeLLM) -> None:
        """C8: a heartbeat goes on while eight answers are computed."""
        llm, beats, done = make_llm(max_tokens=60, ignore_eos=True), 0, False

        async def beat() -> None:
            nonlocal beats
            while not done:
                await asyncio.sleep(0.001)
                beats += 1

        heart = asyncio.create_task(beat())
        await asyncio.gather(*(llm.achat([ChatMessage(prompt)]) for prompt in PROMPTS))
        done = True
        await heart
        assert beats >= 10

    async def test_concurrent_calls_share_steps_and_equal_solo_ones(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime
    ) -> None:
        """C7: eight at once are computed together, and nobody's answer changes."""
        llm = make_llm(max_tokens=48, ignore_eos=True)
        solo = [llm.complete(prompt).text for prompt in PROMPTS]
        before = demo_runtime.stats()
        together = await asyncio.gather(*(llm.acomplete(prompt) for prompt in PROMPTS))
        after = demo_runtime.stats()
        assert [response.text for response in together] == solo
        rows = after.decode_rows - before.decode_rows
        assert rows / (after.decode_steps - before.decode_steps) > 2

    @pytest.mark.parametrize("endpoint", ["stream_chat", "stream_complete"])
    @pytest.mark.parametrize("leaving", LEAVINGS)
    def test_an_abandoned_stream_stops(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime, endpoint: str, leaving: str
    ) -> None:
        """C1: however it is left, the work ends and its memory is free."""
        given = [ChatMessage(QUESTION)] if endpoint == "stream_chat" else QUESTION
        before = demo_runtime.stats().tokens_computed
        stream = getattr(make_llm(), endpoint)(given, **LONG)
        LEAVINGS[leaving](stream)
        del stream
        gc.collect()
        wait_until_idle(demo_runtime)
        assert demo_runtime.stats().tokens_computed - before < 1_400

    @pytest.mark.parametrize("leaving", ["aclose", "break", "cancel", "wait_for"])
    async def test_an_abandoned_async_call_stops(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime, leaving: str
    ) -> None:
        """C1: the same for async streams and awaited answers."""
        llm, before = make_llm(), demo_runtime.stats().tokens_computed
        if leaving == "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(llm.achat([ChatMessage(QUESTION)], **LONG), 0.05)
        elif leaving == "cancel":
            task = asyncio.create_task(llm.acomplete(QUESTION, **LONG))
            while demo_runtime.stats().tokens_computed == before:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            stream = await llm.astream_chat([ChatMessage(QUESTION)], **LONG)
            async for _ in stream:
                break
            if leaving == "aclose":
                await stream.aclose()
            del stream
            gc.collect()
            for _ in range(5):
                await asyncio.sleep(0.001)
        await asyncio.to_thread(wait_until_idle, demo_runtime)
        assert demo_runtime.stats().tokens_computed - before < 1_400

    def test_three_event_loops_in_three_threads_work_at_once(self, make_llm: MakeLLM) -> None:
        """C6: nothing belongs to one loop."""
        llm, texts = make_llm(max_tokens=20), {}

        def work(name: int) -> None:
            async def several() -> list[str]:
                first = await llm.achat([ChatMessage(QUESTION)])
                stream = await llm.astream_chat([ChatMessage(QUESTION)])
                pieces = [chunk.delta or "" async for chunk in stream]
                return [text_of(first), "".join(pieces)]

            texts[name] = asyncio.run(several())

        threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        expected = text_of(llm.chat([ChatMessage(QUESTION)]))
        assert texts == {name: [expected, expected] for name in range(3)}

    async def test_sync_calls_and_llama_index_s_own_loops_work_inside_a_loop(
        self, llm: Aquila2
    ) -> None:
        """LlamaIndex runs coroutines in new loops from sync code inside a running one."""
        expected = llm.complete(QUESTION).text
        nested = await asyncio.to_thread(
            run_async_tasks, [llm.acomplete(QUESTION), llm.acomplete(QUESTION)]
        )
        assert [response.text for response in nested] == [expected, expected]
        assert (await llm.acomplete(QUESTION)).text == expected

    def test_the_model_outlives_an_event_loop(self, llm: Aquila2) -> None:
        first = asyncio.run(llm.acomplete(QUESTION))
        second = asyncio.run(llm.acomplete(QUESTION))
        assert first.text == second.text == llm.complete(QUESTION).text

    async def test_a_seed_gives_the_same_text_whatever_else_runs(self, make_llm: MakeLLM) -> None:
        """S12: alone, beside others, streamed or not."""
        llm = make_llm(temperature=1.0, top_p=1.0, max_tokens=24, ignore_eos=True)
        alone = (await llm.acomplete(QUESTION, seed=7)).text
        crowd = await asyncio.gather(
            *(llm.acomplete(prompt, seed=number) for number, prompt in enumerate(PROMPTS)),
            llm.acomplete(QUESTION, seed=7),
        )
        assert crowd[-1].text == alone
        assert list(llm.stream_complete(QUESTION, seed=7))[-1].text == alone
        assert len({llm.complete(QUESTION, seed=seed).text for seed in range(5)}) > 1
