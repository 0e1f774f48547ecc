"""Streaming: deltas join to the whole text, nothing is lost, held back or cut through."""

from __future__ import annotations

import inspect

import pytest

from aquila2_runtime import Aquila2Runtime, RequestTimeoutError
from llamaindex_aquila2 import Aquila2
from tests.llamaindex.support import (
    ENDPOINTS,
    STREAMS,
    MakeLLM,
    argument,
    ask,
    text_of,
    wait_until_idle,
)


class TestBStreaming:
    def test_all_eight_endpoints_agree(self, llm: Aquila2) -> None:
        """A8: text, reason and counts are the same whichever way a call is made."""
        facts = set()
        for endpoint in ENDPOINTS:
            last = ask(llm, endpoint)[-1]
            usage = last.raw["usage"]
            counts = usage["prompt_tokens"], usage["completion_tokens"]
            facts.add((text_of(last), last.raw["finish_reason"], counts))
        assert len(facts) == 1

    @pytest.mark.parametrize("endpoint", STREAMS)
    @pytest.mark.parametrize("text", ["北京是哪里？请用一句话回答。", "Say hello in English."])
    def test_deltas_join_to_the_cumulative_text(
        self, make_llm: MakeLLM, endpoint: str, text: str
    ) -> None:
        """D1: and no delta holds half a character."""
        responses = ask(make_llm(), endpoint, text, max_tokens=60, ignore_eos=True, seed=3)
        so_far = ""
        for response in responses:
            so_far += response.delta or ""
            assert text_of(response) == so_far
        whole = ask(make_llm(), "complete", text, max_tokens=60, ignore_eos=True)[0]
        assert so_far == text_of(whole)
        assert so_far

    @pytest.mark.parametrize("endpoint", STREAMS)
    def test_text_arrives_in_pieces(self, make_llm: MakeLLM, endpoint: str) -> None:
        """D3: a long answer is not held back to its end."""
        responses = ask(make_llm(), endpoint, max_tokens=300, ignore_eos=True)
        assert len([response for response in responses if response.delta]) >= 3

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_a_failed_request_reaches_the_reader(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime, endpoint: str
    ) -> None:
        """C2: as itself, in every endpoint; nobody hangs."""
        with pytest.raises(RequestTimeoutError):
            ask(make_llm(), endpoint, timeout=1e-9)
        wait_until_idle(demo_runtime)
        assert ask(make_llm(), endpoint, max_tokens=3)

    def test_streams_are_real_generators(self, llm: Aquila2) -> None:
        """LlamaIndex looks for generator objects, and awaits the async endpoints first."""
        for endpoint in ("stream_chat", "stream_complete"):
            stream = getattr(llm, endpoint)(argument(endpoint, "Hello"))
            assert inspect.isgenerator(stream)
            stream.close()

    async def test_async_streams_are_awaited_first(self, llm: Aquila2) -> None:
        for endpoint in ("astream_chat", "astream_complete"):
            stream = await getattr(llm, endpoint)(argument(endpoint, "Hello"))
            assert inspect.isasyncgen(stream)
            await stream.aclose()

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_stop_strings_end_every_kind_of_answer_and_never_show(
        self, make_llm: MakeLLM, endpoint: str
    ) -> None:
        """D6: across token borders, in pieces or whole."""
        text = text_of(ask(make_llm(), "complete", max_tokens=40, ignore_eos=True)[0])
        # Chosen in the middle of the answer, at no particular token border.
        stop = text[len(text) // 2 : len(text) // 2 + 3]
        responses = ask(make_llm(), endpoint, max_tokens=40, ignore_eos=True, stop=[stop])
        assert text_of(responses[-1]) == text[: text.index(stop)]
        assert responses[-1].raw["finish_reason"] == "stop"
        assert responses[-1].raw["stop_reason"] == stop
        assert all(stop not in text_of(response) for response in responses)

    def test_stop_strings_of_call_and_constructor_add_up(self, make_llm: MakeLLM) -> None:
        text = text_of(ask(make_llm(), "complete", max_tokens=40, ignore_eos=True)[0])
        early, late = text[4:6], text[len(text) // 2 : len(text) // 2 + 3]
        llm = make_llm(stop=[early], max_tokens=40, ignore_eos=True)
        assert text_of(ask(llm, "chat", stop=late)[0]) == text[: text.index(early)]
        assert text_of(ask(make_llm(stop=late), "chat", stop=early, ignore_eos=True)[0]) == (
            text[: text.index(early)]
        )
