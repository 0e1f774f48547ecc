"""A. Events and counts: one pair per call, true numbers, responses fit for JSON."""

from __future__ import annotations

import json

import pytest
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler

from llamaindex_aquila2.conformance.calls import ENDPOINTS, QUESTION, argument, ask
from llamaindex_aquila2.conformance.recording import event_names, recording
from llamaindex_aquila2.conformance.suite import Suite


class EventTests(Suite):
    """Points 1 and 2."""

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_a1_every_endpoint_fires_exactly_one_pair_of_events(self, endpoint: str) -> None:
        """No endpoint calls another one that is decorated, or calls are counted twice."""
        llm = self.at_most(8)
        with event_names() as names, recording(llm) as events:
            ask(llm, endpoint)
        assert (len(events.starts), len(events.ends)) == (1, 1)
        kind, other = ("Chat", "Completion") if "chat" in endpoint else ("Completion", "Chat")
        assert names.count(f"LLM{kind}StartEvent") == 1
        assert names.count(f"LLM{kind}EndEvent") == 1
        assert not [name for name in names if name.startswith(f"LLM{other}")]

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_a2_the_token_counter_counts_what_the_model_saw(self, endpoint: str) -> None:
        """Counts are those of the ids, template included, whatever tokenizer the counter has."""
        counter = TokenCountingHandler(tokenizer=lambda text: [0] * 999)
        llm = self.exactly(7)
        expected = self.prompt_tokens(llm, argument(endpoint, QUESTION))
        llm.callback_manager = CallbackManager([counter])
        ask(llm, endpoint)
        assert counter.prompt_llm_token_count == expected
        assert counter.completion_llm_token_count == 7

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_a2_every_response_is_fit_for_json(self, endpoint: str) -> None:
        """Plain values: no tensors, which are kept alive by whatever keeps the event."""
        for response in ask(self.at_most(5), endpoint):
            json.dumps(response.model_dump())
