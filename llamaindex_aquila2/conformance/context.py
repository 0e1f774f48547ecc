"""D. Context: true numbers of it, and no prompt of LlamaIndex's own that exceeds it."""

from __future__ import annotations

import random
import time
from typing import Any, Final

import pytest
from llama_index.core import VectorStoreIndex, get_response_synthesizer
from llama_index.core.chat_engine import CondensePlusContextChatEngine, SimpleChatEngine
from llama_index.core.llms.llm import LLM
from llama_index.core.schema import NodeWithScore, TextNode

from llamaindex_aquila2.conformance.calls import ENDPOINTS, argument, ask
from llamaindex_aquila2.conformance.recording import LLMEvents, recording
from llamaindex_aquila2.conformance.suite import Suite
from llamaindex_aquila2.conformance.texts import NGramEmbedding, document

ANSWER: Final = 64
SYSTEM: Final = "Answer in a full sentence."


class ContextTests(Suite):
    """Points 11 to 14."""

    @pytest.mark.parametrize("mode", ["compact", "refine", "simple_summarize", "accumulate"])
    @pytest.mark.parametrize(("kind", "system"), [("mixed", None), ("en", SYSTEM)])
    def test_d11_a_response_mode_leaves_room_for_the_answer(
        self, mode: str, kind: str, system: str | None
    ) -> None:
        """Of one and a third times what the context holds, packed by LlamaIndex."""
        fields = {} if system is None else {"system_prompt": system}
        assert self._synthesize(mode, self._text(kind, 1.3), **fields)

    @pytest.mark.parametrize("engine", ["simple", "condense_plus_context"])
    def test_d11_a_chat_engine_leaves_room_for_the_answer(self, engine: str) -> None:
        """Turn after turn, in at most eight calls each; LlamaIndex's defaults raise or pile up."""
        llm = self.at_most(ANSWER)
        self.prepare(llm)
        memory = self.chat_memory(llm)
        chat: Any
        if engine == "simple":
            chat = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
        else:
            nodes = [TextNode(text=self._text(kind, 0.1)) for kind in ("en", "zh", "code")]
            index = VectorStoreIndex(nodes, embed_model=NGramEmbedding())
            chat = CondensePlusContextChatEngine.from_defaults(
                index.as_retriever(similarity_top_k=2), llm=llm, memory=memory
            )
        question = self._text("mixed", 0.06)
        for turn in range(6):
            with recording(llm) as events:
                chat.chat(f"Turn {turn}. {question}")
            assert 1 <= self._check(llm, events) <= 8

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_d12_a_prompt_that_is_too_long_is_refused_with_its_numbers(self, endpoint: str) -> None:
        """Before any work, and nothing is cut silently."""
        llm, text = self.at_most(16), self._text("zh", 1.2)
        tokens = self.prompt_tokens(llm, argument(endpoint, text))
        most, before = self.cost_of_a_hundred(), self.work(llm)
        with pytest.raises(self.overflow_error) as caught:
            ask(llm, endpoint, text)
        said = str(caught.value).replace(",", "")
        assert str(tokens) in said
        assert str(self.window) in said
        assert self.work(llm) - before <= most

    def test_d13_a_document_of_twice_the_context_takes_few_calls(self) -> None:
        """Packed by the model's own tokenizer, prompts are few and full."""
        assert self._synthesize("tree_summarize", self._text("zh", 1.88)) <= 4

    def test_d14_metadata_are_true_and_cost_nothing(self) -> None:
        """LlamaIndex reads them nine times in one query, and plans with what they say."""
        llm = self.exactly(12)
        metadata = llm.metadata
        assert metadata.num_output == 12
        assert self.count_tokens(llm.complete("Hello").text) <= 14
        assert self.window * 0.8 <= metadata.context_window <= self.window
        assert metadata.model_name not in {"", "unknown"}
        began = time.process_time()
        for _ in range(100):
            assert llm.metadata.num_output == 12
        assert time.process_time() - began < 0.1

    # Inner steps

    def _text(self, kind: str, share: float) -> str:
        """A text with a share of the tokens of the context."""
        wanted = int(self.window * share)
        seed = random.Random(f"{kind} {share}").randrange(1_000)
        sample = document(kind, 2_000, seed)
        characters = wanted * len(sample) // max(self.count_tokens(sample), 1)
        return document(kind, characters, seed)

    def _synthesize(self, mode: Any, text: str, **fields: Any) -> int:
        """Answer a question from a text in two nodes; how many calls it took."""
        llm = self.at_most(ANSWER, **fields)
        self.prepare(llm)
        synthesizer = get_response_synthesizer(
            llm=llm, response_mode=mode, prompt_helper=self.prompt_helper(llm)
        )
        half = len(text) // 2
        nodes = [
            NodeWithScore(node=TextNode(text=part), score=1.0)
            for part in (text[:half], text[half:])
        ]
        with recording(llm) as events:
            synthesizer.synthesize("Where did the office move? 图书馆在哪里？", nodes)
        return self._check(llm, events)

    def _check(self, llm: LLM, events: LLMEvents) -> int:
        """Every prompt leaves room for the whole answer; how many there were."""
        for prompt in events.prompts:
            assert self.prompt_tokens(llm, prompt) + ANSWER <= self.window
        return len(events.prompts)
