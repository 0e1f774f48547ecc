"""C. Leaving: whoever stops reading or waiting stops the work. See concurrency.py for the rest."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Any, Final

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import LLM

from llamaindex_aquila2.conformance.calls import QUESTION, argument
from llamaindex_aquila2.conformance.suite import Suite

LONG: Final = 1_500
# An answer that is left may cost so many hundreds of tokens, of the fifteen it would have had.
_HUNDREDS: Final = 5


def _break_off(stream: Any) -> None:
    for _ in stream:
        break


def _close(stream: Any) -> None:
    next(stream)
    stream.close()


LEAVINGS: Final[dict[str, Callable[[Any], object]]] = {
    "never read": lambda stream: None,
    "closed": _close,
    "broken off": _break_off,
    "dropped": next,
}


class LeavingTests(Suite):
    """Point 7."""

    @pytest.mark.parametrize("endpoint", ["stream_chat", "stream_complete"])
    @pytest.mark.parametrize("leaving", LEAVINGS)
    def test_c7_an_abandoned_stream_stops(self, endpoint: str, leaving: str) -> None:
        """However it is left, the work ends."""
        most, llm = self.cost_of_a_hundred() * _HUNDREDS, self.exactly(LONG)
        before = self.work(llm)
        stream = getattr(llm, endpoint)(argument(endpoint, QUESTION))
        LEAVINGS[leaving](stream)
        del stream
        gc.collect(1)
        self.settle(llm)
        assert self.work(llm) - before <= most

    @pytest.mark.parametrize("leaving", ["aclose", "break", "cancel", "wait_for"])
    def test_c7_an_abandoned_async_call_stops(self, leaving: str) -> None:
        """The same for async streams and awaited answers."""
        most, llm = self.cost_of_a_hundred() * _HUNDREDS, self.exactly(LONG)
        before = self.work(llm)

        async def leave() -> None:
            if leaving == "wait_for":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(llm.achat([ChatMessage(QUESTION)]), 0.05)
            elif leaving == "cancel":
                await self._cancel(llm, before)
            else:
                await _leave_stream(llm, closing=leaving == "aclose")

        asyncio.run(leave())
        self.settle(llm)
        assert self.work(llm) - before <= most

    async def _cancel(self, llm: LLM, before: float) -> None:
        """Cancel a task once its work has begun."""
        task = asyncio.create_task(llm.acomplete(QUESTION))
        deadline = time.monotonic() + 30
        while self.work(llm) == before and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def _leave_stream(llm: LLM, *, closing: bool) -> None:
    stream: Any = await llm.astream_chat([ChatMessage(QUESTION)])
    async for _ in stream:
        break
    if closing:
        await stream.aclose()
    del stream
    gc.collect(1)
    # asyncio closes generators that were dropped a few turns of the loop later.
    for _ in range(5):
        await asyncio.sleep(0.001)
