"""Query engines fill their prompts: with a system prompt, and where they answer with objects."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from llama_index.core import PromptTemplate, Settings, get_response_synthesizer
from llama_index.core.prompts import SelectorPromptTemplate
from llama_index.core.schema import NodeWithScore, TextNode

from aquila2_runtime import Aquila2Runtime
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.conformance.objects import Town
from llamaindex_aquila2.conformance.texts import document
from tests.llamaindex.scripted import ScriptedEngine, scripted_runtime
from tests.llamaindex.support import MakeLLM

QUESTION = PromptTemplate("Context: {context_str}\nQuestion: {query_str}")


def text_of(llm: Aquila2, tokens: int) -> str:
    """Prose of about so many tokens."""
    text = document("en", 8 * tokens, 1)
    while len(llm.tokenizer_fn(text)) > tokens:
        text = text[: -max(1, len(text) // 100)]
    return text


def answered(llm: Aquila2, engine: ScriptedEngine, text: str, **options: Any) -> list[int]:
    """The prompts' tokens of one question about a text."""
    engine.asked.clear()
    synthesizer = get_response_synthesizer(llm=llm, prompt_helper=llm.prompt_helper(), **options)
    synthesizer.synthesize("What?", [NodeWithScore(node=TextNode(text=text), score=1.0)])
    return [len(request.prompt_token_ids) for request in engine.asked]


class TestDSystemPrompts:
    @pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize"])
    def test_a_long_system_prompt_takes_its_room_once(
        self, demo_runtime: Aquila2Runtime, mode: str
    ) -> None:
        """The window is less it, and LlamaIndex took it off again: six calls became 34."""
        runtime, engine = scripted_runtime(demo_runtime, 2_048, 3)
        plain = Aquila2.from_runtime(runtime, max_tokens=128)
        system = text_of(plain, 960)
        llm = plain.model_copy(update={"system_prompt": system})
        taken = len(llm.tokenizer_fn(system))
        prompts = answered(llm, engine, text_of(llm, 3_000), response_mode=mode)
        assert max(prompts) <= 2_048 - 128
        shorter, short = scripted_runtime(demo_runtime, 2_048 - taken, 3)
        bare = Aquila2.from_runtime(shorter, max_tokens=128)
        assert len(prompts) == len(answered(bare, short, text_of(llm, 3_000), response_mode=mode))

    def test_a_chunk_has_what_the_window_leaves(self, make_llm: MakeLLM) -> None:
        """Also where the prompt depends on the model, and where it answers with objects."""
        plain = make_llm(max_tokens=64)
        llm = make_llm(max_tokens=64, system_prompt="You name your sources. " * 20)
        less = plain.metadata.context_window - llm.metadata.context_window
        other = PromptTemplate("Say what is said here: {context_str}")
        chosen = SelectorPromptTemplate(QUESTION, [(lambda _: True, other)])
        pairs = [(plain, llm), (plain.as_structured_llm(Town), llm.as_structured_llm(Town))]
        for prompt, (bare, own) in itertools.product((QUESTION, chosen), pairs):
            more = plain.prompt_helper()._get_available_chunk_size(prompt, llm=bare)
            assert more - less == llm.prompt_helper()._get_available_chunk_size(prompt, llm=own)

    def test_another_model_s_system_prompt_is_charged(self, make_llm: MakeLLM) -> None:
        """The helper's window knows of its own model's only."""
        llm = make_llm(max_tokens=64).use_as_default()
        system = "You name your sources. " * 20
        other = llm.model_copy(update={"system_prompt": system})
        helper: Any = Settings.prompt_helper
        rooms = [helper._get_available_chunk_size(QUESTION, llm=one) for one in (llm, other)]
        assert rooms[0] - rooms[1] == len(llm.tokenizer_fn(system))
        assert rooms[0] == helper._get_available_chunk_size(QUESTION)

    def test_tools_of_the_caller_s_are_counted_and_left_as_they_were(
        self, make_llm: MakeLLM
    ) -> None:
        llm = make_llm(max_tokens=64)
        tools: list[Any] = []
        structured = llm.as_structured_llm(Town)
        room = llm.prompt_helper()._get_available_chunk_size(QUESTION, llm=structured, tools=tools)
        assert room < llm.prompt_helper()._get_available_chunk_size(QUESTION, llm=llm)
        assert tools == []
