"""Concurrency: shared steps, counted; the rest is in the suite."""

from __future__ import annotations

import asyncio

from aquila2_runtime import Aquila2Runtime
from llamaindex_aquila2.conformance.concurrency import PROMPTS
from tests.llamaindex.support import MakeLLM


class TestCConcurrency:
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
