"""Events and counts: one pair per call, true numbers, everything fit for JSON."""

from __future__ import annotations

import json

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.callbacks.schema import EventPayload
from llama_index.core.instrumentation import get_dispatcher

from aquila2_runtime import Aquila2Runtime, ContextOverflowError, Message
from tests.llamaindex.support import (
    ENDPOINTS,
    QUESTION,
    STREAMS,
    EventNames,
    LLMEvents,
    MakeLLM,
    ask,
    usage_of,
)


class TestAEventsAndCounts:
    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_every_endpoint_fires_exactly_one_pair_of_events(
        self, make_llm: MakeLLM, endpoint: str
    ) -> None:
        """A8: no endpoint calls another decorated one."""
        handler, names = LLMEvents(), EventNames()
        root = get_dispatcher()
        root.add_event_handler(names)
        try:
            ask(make_llm(max_tokens=8, callback_manager=CallbackManager([handler])), endpoint)
        finally:
            root.event_handlers.remove(names)
        assert (len(handler.starts), len(handler.ends)) == (1, 1)
        kind = "Chat" if "chat" in endpoint else "Completion"
        assert names.names.count(f"LLM{kind}StartEvent") == 1
        assert names.names.count(f"LLM{kind}EndEvent") == 1
        other = "Completion" if kind == "Chat" else "Chat"
        assert not [name for name in names.names if name.startswith(f"LLM{other}")]

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_the_token_counter_counts_what_the_model_saw(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime, endpoint: str
    ) -> None:
        """A8: counts are those of the ids, with the template, in every endpoint."""
        counter = TokenCountingHandler(tokenizer=lambda text: [0] * 999)
        llm = make_llm(callback_manager=CallbackManager([counter]))
        ask(llm, endpoint, max_tokens=7, ignore_eos=True)
        assert counter.prompt_llm_token_count == len(
            demo_runtime.render([Message("user", QUESTION)])
        )
        assert counter.completion_llm_token_count == 7

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
