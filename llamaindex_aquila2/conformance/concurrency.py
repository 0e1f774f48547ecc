"""C. Concurrency: free event loops, any loop and thread, shared steps. See also leaving.py."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest
from llama_index.core.async_utils import run_async_tasks
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import LLM

from llamaindex_aquila2.conformance.calls import QUESTION, text_of
from llamaindex_aquila2.conformance.suite import Suite
from llamaindex_aquila2.conformance.timing import Watch, least, longest_pause

PROMPTS = [f"Question {number}: what is {number} plus one? 答案是什么？" for number in range(8)]


class ConcurrencyTests(Suite):
    """Points 6 and 8 to 10."""

    def test_c6_the_event_loop_stays_free(self) -> None:
        """A heartbeat goes on while eight answers are computed."""
        llm = self.exactly(40)

        async def together() -> None:
            await asyncio.gather(*(llm.achat([ChatMessage(prompt)]) for prompt in PROMPTS))

        async def run() -> float:
            return await longest_pause(together())

        asyncio.run(together())  # whatever the first call has to set up
        bound = self.most_loop_pause
        assert least(lambda: asyncio.run(run()), bound) <= bound

    def test_c6_a_time_limit_takes_effect_at_once(self) -> None:
        """``wait_for`` gives up while the answer is being computed."""
        llm, limit = self.exactly(1_000), 0.05

        async def hurry() -> float:
            with contextlib.closing(Watch()) as watch:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(llm.achat([ChatMessage(QUESTION)]), limit)
                return watch.lap() - limit

        bound = self.most_loop_pause
        assert least(lambda: asyncio.run(hurry()), bound) <= bound
        self.settle(llm)

    def test_c8_three_event_loops_in_three_threads_work_at_once(self) -> None:
        """Nothing belongs to one loop."""
        llm, texts = self.at_most(16), {}

        def work(name: int) -> None:
            async def several() -> list[str]:
                first = await llm.achat([ChatMessage(QUESTION)])
                stream = await llm.astream_chat([ChatMessage(QUESTION)])
                return [text_of(first), "".join([chunk.delta or "" async for chunk in stream])]

            texts[name] = asyncio.run(several())

        threads = [threading.Thread(target=work, args=(name,), daemon=True) for name in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        expected = text_of(llm.chat([ChatMessage(QUESTION)]))
        assert texts == {name: [expected, expected] for name in range(3)}

    def test_c8_sync_calls_and_llama_index_s_own_loops_work_inside_a_loop(self) -> None:
        """LlamaIndex runs coroutines in new loops from sync code inside a running one."""
        llm = self.at_most(12)

        async def nested() -> set[str]:
            texts = {llm.complete(QUESTION).text, (await llm.acomplete(QUESTION)).text}
            tasks = [llm.acomplete(QUESTION), llm.acomplete(QUESTION)]
            return texts | {answer.text for answer in run_async_tasks(tasks)}

        assert asyncio.run(nested()) == {llm.complete(QUESTION).text}

    def test_c8_a_model_outlives_an_event_loop(self) -> None:
        """One loop after the other, and none."""
        llm = self.at_most(12)
        first, second = (asyncio.run(llm.acomplete(QUESTION)).text for _ in "12")
        assert first == second == llm.complete(QUESTION).text

    def test_c9_answers_computed_together_equal_solo_ones(self) -> None:
        """Nobody's answer changes by who else asks."""
        llm = self.exactly(40)
        solo = [llm.complete(prompt).text for prompt in PROMPTS]
        assert asyncio.run(_gather(llm, PROMPTS)) == solo

    def test_c9_eight_calls_at_once_cost_little_more_than_one(self) -> None:
        """They are computed together, step by step; measured in this process's own seconds."""
        llm = self.exactly(48)
        asyncio.run(_gather(llm, [QUESTION] * 8))

        def cost(count: int) -> float:
            before = time.process_time()
            asyncio.run(_gather(llm, [QUESTION] * count))
            return time.process_time() - before

        bar = self.most_cost_of_eight
        assert least(lambda: cost(8) / cost(1), bar) <= bar

    def test_c10_a_seed_gives_the_same_text_whatever_else_runs(self) -> None:
        """Alone, beside others, streamed or not; another seed gives another text."""
        llm = self.exactly(20)

        async def crowd() -> list[str]:
            seeded = [
                llm.acomplete(prompt, **self.random_keywords(number))
                for number, prompt in enumerate(PROMPTS)
            ]
            seeded.append(llm.acomplete(QUESTION, **self.random_keywords(7)))
            return [answer.text for answer in await asyncio.gather(*seeded)]

        alone = llm.complete(QUESTION, **self.random_keywords(7)).text
        assert asyncio.run(crowd())[-1] == alone
        streamed = list(llm.stream_complete(QUESTION, **self.random_keywords(7)))
        assert streamed[-1].text == alone
        texts = {llm.complete(QUESTION, **self.random_keywords(seed)).text for seed in range(4)}
        assert len(texts) > 1


async def _gather(llm: LLM, prompts: list[str]) -> list[str]:
    answers = await asyncio.gather(*(llm.acomplete(prompt) for prompt in prompts))
    return [answer.text for answer in answers]
