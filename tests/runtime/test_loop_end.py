"""An event loop closed under a waiting reader: the request ends, the engine goes on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime, SamplingParams
from tests.runtime.support import ask, idle, wait_until

LONG = SamplingParams(temperature=0, max_tokens=1_900, ignore_eos=True)
SHORT = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)


async def _streamed(runtime: Aquila2Runtime, params: SamplingParams) -> None:
    async for _ in runtime.astream_chat(ask(0), params):
        pass


WAYS: dict[str, Callable[[Aquila2Runtime, SamplingParams], Any]] = {
    "achat": lambda runtime, params: runtime.achat(ask(0), params),
    "acomplete": lambda runtime, params: runtime.acomplete("The sea", params),
    "achat_batch": lambda runtime, params: runtime.achat_batch([ask(0), ask(1)], params),
    "astream_chat": _streamed,
}


# asyncio itself complains, rightly, about a task destroyed while it is pending.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kept", [True, False], ids=["task kept", "task dropped"])
def test_closing_a_loop_aborts_what_it_was_waiting_for(
    demo_runtime: Aquila2Runtime, way: str, kept: bool
) -> None:
    """C1: the request once ran to its max_tokens for nobody."""
    loop = asyncio.new_event_loop()
    before = demo_runtime.stats().decode_steps

    async def start() -> Any:
        task = loop.create_task(WAYS[way](demo_runtime, LONG))
        while demo_runtime.stats().decode_steps < before + 5:
            await asyncio.sleep(0.001)
        return task

    task = loop.run_until_complete(start())
    loop.close()
    if not kept:
        task = None
        gc.collect()
    assert wait_until(lambda: idle(demo_runtime))
    assert demo_runtime.stats().decode_steps - before < 1_000
    assert len(demo_runtime.chat(ask(1), SHORT).token_ids) == 8
    if kept:
        assert not task.done()
        task._log_destroy_pending = False


def test_a_loop_that_goes_on_keeps_no_timers_of_ended_requests(
    demo_runtime: Aquila2Runtime,
) -> None:
    """C13: what notices the end of a loop is taken back with every request."""

    async def ask_often() -> int:
        loop: Any = asyncio.get_running_loop()
        for _ in range(20):
            await demo_runtime.achat(ask(0), SHORT)
        return sum(not timer.cancelled() for timer in loop._scheduled)

    assert asyncio.run(ask_often()) == 0
