"""Query engines fill their prompts: with a system prompt, and where they answer with objects."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from llama_index.core import PromptTemplate, Settings, get_response_synthesizer
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import SelectorPromptTemplate
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import BaseModel

from aquila2_runtime import Aquila2Runtime, ContextOverflowError, InvalidConstraintError
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.conformance.objects import METHODS, Town, predict
from llamaindex_aquila2.conformance.texts import document
from tests.llamaindex.scripted import ScriptedEngine, scripted_runtime
from tests.llamaindex.support import MakeLLM

QUESTION = PromptTemplate("Context: {context_str}\nQuestion: {query_str}")
OSTIA = '{"name": "Ostia", "inhabitants": 1, "rivers": []}'


class Visit(BaseModel):
    """A class with a long form and short objects."""

    town: Literal[
        "Ostia", "Tivoli", "Frascati", "Anzio", "Nettuno", "Viterbo", "Bracciano", "Civitavecchia",
        "Ostia Antica", "Albano", "Genzano", "Velletri", "Palestrina", "Subiaco", "Fiumicino",
    ]  # fmt: skip


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


class TestDObjects:
    @pytest.mark.parametrize(
        ("mode", "tokens"), [("compact", 1_700), ("refine", 1_700), ("tree_summarize", 4_000)]
    )
    def test_a_query_engine_answers_with_an_object_behind_a_full_prompt(
        self, demo_runtime: Aquila2Runtime, mode: str, tokens: int
    ) -> None:
        """LlamaIndex packs the prompt before the form is named, and takes a refusal for silence."""
        runtime, engine = scripted_runtime(demo_runtime, 2_048, 3)
        llm = Aquila2.from_runtime(runtime, max_tokens=128)
        engine.script = ['{"town": "Ostia"}'] * 9
        synthesizer = get_response_synthesizer(
            llm=llm, prompt_helper=llm.prompt_helper(), response_mode=mode, output_cls=Visit
        )
        node = TextNode(text=text_of(llm, tokens))
        response = synthesizer.synthesize("What?", [NodeWithScore(node=node, score=1.0)])
        assert Visit.model_validate_json(str(response)).town == "Ostia"
        fullest = max(len(request.prompt_token_ids) for request in engine.asked)
        assert fullest > 2_048 - 128
        for request in engine.asked:
            room = 2_048 - len(request.prompt_token_ids)
            assert request.max_tokens == min(128, room)

    @pytest.mark.parametrize("method", METHODS)
    def test_the_constructor_s_limit_gives_way_and_a_call_s_does_not(
        self, make_llm: MakeLLM, method: str
    ) -> None:
        llm = make_llm(max_model_len=512, max_tokens=200)
        prompt = PromptTemplate(text_of(llm, 360))
        assert type(predict(llm, method, Town, prompt=prompt)[-1]) is Town
        with pytest.raises(ContextOverflowError) as caught:
            predict(llm, method, Town, prompt=prompt, llm_kwargs={"max_tokens": 200})
        assert caught.value.max_tokens == 200
        hopeless = PromptTemplate(text_of(llm, 460))
        with pytest.raises(InvalidConstraintError, match="there is room for"):
            predict(llm, method, Town, prompt=hopeless)

    def test_the_constructor_s_limit_holds_where_there_is_room(
        self, demo_runtime: Aquila2Runtime
    ) -> None:
        runtime, engine = scripted_runtime(demo_runtime, 2_048, 0)
        llm = Aquila2.from_runtime(runtime, max_tokens=90)
        for own, kwargs in ((90, {}), (40, {"max_tokens": 40}), (40, {"max_new_tokens": 40})):
            engine.script = [OSTIA]
            predict(llm, "structured_predict", Town, llm_kwargs=kwargs)
            assert engine.asked[-1].max_tokens == own
        llm.max_tokens = None
        engine.script = [OSTIA]
        predict(llm, "structured_predict", Town)
        assert engine.asked[-1].max_tokens == llm.metadata.num_output
        llm.chat([ChatMessage("Hi")], answer_limit=7)
        assert engine.asked[-1].max_tokens == 7
        llm.max_tokens = 90
        llm.chat([ChatMessage("Hi")], answer_limit=7)
        assert engine.asked[-1].max_tokens == 7


WRAPPER = (
    "A curious user talks to an assistant, who answers briefly and names no source that is not "
    "there. ### Human: {query_str} ### Assistant:"
)


def _completed(prompt: str) -> str:
    return WRAPPER.format(query_str=prompt)


def _conversed(messages: Sequence[ChatMessage]) -> str:
    return _completed("\n".join(message.content or "" for message in messages))


class TestDOwnPrompts:
    @pytest.mark.parametrize("mode", ["tree_summarize", "simple_summarize", "accumulate"])
    @pytest.mark.parametrize(
        "fields",
        [
            {"messages_to_prompt": _conversed},
            {"messages_to_prompt": _conversed, "system_prompt": "You name your sources. " * 9},
            {"completion_to_prompt": _completed, "is_chat_model": False},
            {"query_wrapper_prompt": PromptTemplate(WRAPPER), "is_chat_model": False},
        ],
        ids=["messages", "system", "completion", "wrapper"],
    )
    def test_what_the_caller_s_own_prompts_take_is_off_the_window(
        self, demo_runtime: Aquila2Runtime, mode: str, fields: dict[str, Any]
    ) -> None:
        """It was not counted, and summaries of long texts overflowed."""
        runtime, engine = scripted_runtime(demo_runtime, 1_024, 3)
        llm = Aquila2.from_runtime(runtime, max_tokens=64, **fields)
        prompts = answered(llm, engine, text_of(llm, 2_000), response_mode=mode)
        assert 1_024 // 2 < max(prompts) <= 1_024 - 64

    @pytest.mark.parametrize(
        "fields",
        [
            {"completion_to_prompt": _completed},
            {"query_wrapper_prompt": PromptTemplate(WRAPPER)},
            {"query_wrapper_prompt": PromptTemplate(WRAPPER), "system_prompt": "Be brief."},
        ],
        ids=["completion", "wrapper", "system"],
    )
    def test_a_completion_of_a_full_window_fits(
        self, demo_runtime: Aquila2Runtime, fields: dict[str, Any]
    ) -> None:
        runtime, engine = scripted_runtime(demo_runtime, 512, 3)
        llm = Aquila2.from_runtime(runtime, max_tokens=64, **fields)
        room = llm.metadata.context_window - 64
        llm.complete(text_of(llm, room))
        assert 512 - 64 - 24 < len(engine.asked[-1].prompt_token_ids) <= 512 - 64

    def test_functions_are_asked_anew_when_they_change_and_their_errors_wait(
        self, make_llm: MakeLLM
    ) -> None:
        llm = make_llm(max_tokens=64)
        whole = llm.metadata.context_window
        llm.completion_to_prompt = _completed
        assert llm.metadata.context_window < whole - 20
        llm.completion_to_prompt = lambda prompt: str(1 // 0)
        assert llm.metadata.context_window == whole
        with pytest.raises(ZeroDivisionError):
            llm.complete("Hi")
