"""B. Streaming: deltas join to the whole text; nothing is lost, held back or cut through."""

from __future__ import annotations

import asyncio
import inspect
import time

import pytest

from llamaindex_aquila2.conformance.calls import (
    ENDPOINTS,
    STREAMS,
    argument,
    ask,
    text_of,
    usage_of,
    within,
)
from llamaindex_aquila2.conformance.suite import Suite
from llamaindex_aquila2.conformance.timing import least

# Seconds after which what has not come never will.
_HANGS = 20.0
URL = "https://example.com/a?b=c&d=e"


class StreamingTests(Suite):
    """Points 3 to 5."""

    def test_b3_all_eight_endpoints_agree_in_text(self) -> None:
        """The text is the same whichever way a call is made."""
        llm = self.at_most(24)
        assert len({text_of(ask(llm, endpoint)[-1]) for endpoint in ENDPOINTS}) == 1

    def test_b3_all_eight_endpoints_agree_in_counts_and_reason(self) -> None:
        """So are usage and finish reason."""
        llm, facts = self.at_most(24), set()
        for endpoint in ENDPOINTS:
            last = ask(llm, endpoint)[-1]
            usage = usage_of(last)
            counts = usage["prompt_tokens"], usage["completion_tokens"]
            facts.add((last.raw["finish_reason"], counts))
        assert len(facts) == 1

    @pytest.mark.parametrize("endpoint", STREAMS)
    @pytest.mark.parametrize("text", ["北京是哪里？请用一句话回答。", "Say hello in English."])
    def test_b3_deltas_join_to_the_cumulative_text(self, endpoint: str, text: str) -> None:
        """And no delta holds half a character."""
        llm, so_far = self.exactly(40), ""
        for response in ask(llm, endpoint, text):
            so_far += response.delta or ""
            assert text_of(response) == so_far
        whole = ask(llm, endpoint.replace("stream_", ""), text)[0]
        assert so_far == text_of(whole)
        assert so_far

    @pytest.mark.parametrize("endpoint", STREAMS)
    def test_b3_the_last_chunk_carries_usage_and_reason(self, endpoint: str) -> None:
        """LlamaIndex's counter and its agents read the last chunk alone."""
        last = ask(self.exactly(12), endpoint)[-1]
        assert usage_of(last)["completion_tokens"] == 12
        assert last.raw["finish_reason"] == "length"

    def test_b3_streams_are_generators_and_async_ones_are_awaited_first(self) -> None:
        """LlamaIndex looks for generator objects, and awaits the async endpoints."""
        llm = self.at_most(4)

        async def astreams() -> None:
            for endpoint in STREAMS[1::2]:
                stream = await getattr(llm, endpoint)(argument(endpoint, "Hello"))
                assert inspect.isasyncgen(stream)
                await stream.aclose()

        for endpoint in STREAMS[::2]:
            stream = getattr(llm, endpoint)(argument(endpoint, "Hello"))
            assert inspect.isgenerator(stream)
            stream.close()
        asyncio.run(astreams())

    @pytest.mark.parametrize("endpoint", STREAMS)
    def test_b4_text_without_spaces_is_not_held_back(self, endpoint: str) -> None:
        """Only half a character, or what may begin a stop string, waits for what follows."""
        llm, keywords = self.saying(URL)

        def missing() -> float:
            """Of ten chunks; a reader who is kept waiting finds several tokens in one."""
            responses = ask(llm, endpoint, **keywords)
            assert text_of(responses[-1]).strip() == URL
            return 10 - len([response for response in responses if response.delta])

        assert least(missing, 0) <= 0

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_b5_an_error_reaches_the_reader_at_once(self, endpoint: str) -> None:
        """As itself; nobody waits for text that will never come."""
        llm, error = self.failing()

        def took() -> float:
            began = time.perf_counter()
            with pytest.raises(error):
                within(_HANGS, lambda: ask(llm, endpoint))
            return time.perf_counter() - began

        assert least(took, self.patience) <= self.patience
