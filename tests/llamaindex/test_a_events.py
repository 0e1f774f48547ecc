"""Events and counts: one pair per call, true numbers, everything fit for JSON."""

from __future__ import annotations

import json

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.schema import EventPayload

from aquila2_runtime import Choice, ContextOverflowError
from tests.llamaindex.support import (
    ENDPOINTS,
    QUESTION,
    STREAMS,
    LLMEvents,
    MakeLLM,
    ask,
    usage_of,
)


class TestAEventsAndCounts:
    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_every_response_is_fit_for_json(self, make_llm: MakeLLM, endpoint: str) -> None:
        """A8: responses hold plain values, and the last one the facts of the call."""
        responses = ask(make_llm(), endpoint, max_tokens=5, logprobs=2)
        for response in responses:
            json.dumps(response.model_dump())
        raw = responses[-1].raw
        assert raw["finish_reason"] in {"stop", "length"}
        assert raw["usage"]["total_tokens"] == (
            raw["usage"]["prompt_tokens"] + raw["usage"]["completion_tokens"]
        )
        assert responses[-1].additional_kwargs == raw["usage"]
        assert raw["timings"]["total"] > 0
        assert raw["model"]

    @pytest.mark.parametrize("endpoint", STREAMS)
    def test_only_the_last_chunk_carries_usage(self, make_llm: MakeLLM, endpoint: str) -> None:
        responses = ask(make_llm(), endpoint, max_tokens=40, ignore_eos=True)
        assert all("usage" not in response.raw for response in responses[:-1])
        assert all(response.raw["finish_reason"] is None for response in responses[:-1])
        assert usage_of(responses[-1])["completion_tokens"] == 40

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_a_refused_call_ends_its_event_with_the_error(
        self, make_llm: MakeLLM, endpoint: str
    ) -> None:
        handler = LLMEvents()
        llm = make_llm(callback_manager=CallbackManager([handler]))
        with pytest.raises(ContextOverflowError):
            ask(llm, endpoint, max_tokens=5_000)
        assert (len(handler.starts), len(handler.ends)) == (1, 1)
        assert isinstance(handler.ends[0][EventPayload.EXCEPTION], ContextOverflowError)

    def test_logprobs_are_given_per_token_when_asked_for(self, make_llm: MakeLLM) -> None:
        response = make_llm().chat([ChatMessage(QUESTION)], max_tokens=4, logprobs=3)
        tokens = usage_of(response)["completion_tokens"]
        assert response.logprobs is not None
        assert len(response.logprobs) == tokens
        assert all(entry[0].logprob <= 0 for entry in response.logprobs)
        # Greedy: the chosen token is the likeliest, and the others follow it once each.
        assert all(len(entry) == 3 for entry in response.logprobs)

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_bytes_of_logprobs_are_those_of_the_tokens_themselves(
        self, make_llm: MakeLLM, endpoint: str
    ) -> None:
        """Half a character had those of U+FFFD, and the end those of its name."""
        asked = {"constraint": Choice(("龘",)), "logprobs": 1}
        responses = ask(make_llm(), endpoint, **asked)
        entries = [one for response in responses for one in response.logprobs or ()]
        assert len(entries) > 1
        assert b"".join(bytes(entry[0].bytes) for entry in entries) == "龘".encode()
