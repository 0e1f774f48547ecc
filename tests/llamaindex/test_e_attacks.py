"""What users get wrong, or others put into what they pass on: refused by name, never swallowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.prompts import PromptTemplate

from aquila2_runtime import (
    Choice,
    InvalidLoadOptionError,
    InvalidPromptError,
    InvalidRequestError,
    InvalidSamplingParamsError,
    UnknownParameterError,
)
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.conformance.objects import METHODS, Town, predict
from llamaindex_aquila2.long_document import LongDocument
from tests.llamaindex.support import MakeLLM


class TestEAssignment:
    @pytest.mark.parametrize(
        ("name", "value", "error"),
        [
            ("temperature", "hot", InvalidSamplingParamsError),
            ("max_tokens", True, InvalidSamplingParamsError),
            ("system_prompt", 7, InvalidRequestError),
            ("messages_to_prompt", 3, InvalidRequestError),
            ("is_chat_model", "no", InvalidRequestError),
            ("timeout", -1, InvalidRequestError),
            ("quantization", "nf4", InvalidLoadOptionError),
            ("max_model_len", 256, InvalidLoadOptionError),
            ("model", "AquilaChat2-7B", InvalidLoadOptionError),
        ],
    )
    def test_an_assigned_field_is_checked_where_it_is_assigned(
        self, make_llm: MakeLLM, name: str, value: Any, error: type[Exception]
    ) -> None:
        """S1: a load option was taken and did nothing; the others failed at the next call."""
        llm = make_llm(max_tokens=5)
        before = llm.to_dict()
        with pytest.raises(error, match=name):
            setattr(llm, name, value)
        assert llm.to_dict() == before

    def test_an_assigned_field_is_kept_in_the_constructor_s_form(self, make_llm: MakeLLM) -> None:
        llm = make_llm()
        llm.stop, llm.messages_to_prompt = "###", None  # type: ignore[assignment]
        llm.max_model_len = llm.max_model_len
        assert llm.stop == ("###",)
        assert llm.chat([ChatMessage("Hello")], max_tokens=2).message.content

    def test_a_copy_knows_the_limit_s_other_names(self, make_llm: MakeLLM) -> None:
        assert make_llm(max_tokens=6).model_copy(update={"num_output": 3}).max_tokens == 3

    def test_a_dictionary_cannot_name_what_is_loaded(self) -> None:
        """A5: ``_lease`` is this class's own way to itself."""
        with pytest.raises(UnknownParameterError, match="_lease"):
            Aquila2.from_dict({"model": "AquilaChat2-7B", "_lease": "x"})


class TestEHelpers:
    @pytest.mark.parametrize("value", ["120", 1.5, True])
    def test_sizes_are_integers(self, llm: Aquila2, value: Any) -> None:
        """S1: "120" was a TypeError, True one token."""
        calls: dict[str, Callable[[], object]] = {
            "chunk_size": lambda: llm.node_parser(value),
            "chunk_overlap": lambda: llm.node_parser(100, value),
            "token_limit": lambda: llm.chat_memory(value),
        }
        for name, call in calls.items():
            with pytest.raises(InvalidRequestError) as caught:
                call()
            assert caught.value.parameter == name

    @pytest.mark.parametrize(("name", "value"), [("llm", "aquila2-demo"), ("retriever", "bm25")])
    def test_a_document_s_model_and_retriever_are_checked_at_once(
        self, llm: Aquila2, name: str, value: str
    ) -> None:
        given: dict[str, Any] = {"llm": llm, "document": "A text.", name: value}
        with pytest.raises(InvalidRequestError) as caught:
            LongDocument(**given)
        assert caught.value.parameter == name


class TestEObjects:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize(
        ("given", "named"),
        [
            ({"prompt": "Name a town."}, "prompt"),
            ({"llm_kwargs": [1]}, "llm_kwargs"),
            ({"llm_kwargs": {"constraint": Choice(["Rome"])}}, "constraint"),
        ],
    )
    def test_what_asks_for_an_object_is_checked(
        self, llm: Aquila2, method: str, given: dict[str, Any], named: str
    ) -> None:
        """S8: a constraint of the caller's own was dropped without a word."""
        with pytest.raises(InvalidRequestError) as caught:
            predict(llm, method, Town, **given)
        assert caught.value.parameter == named

    def test_a_prompt_that_lacks_a_value_is_filled_as_llama_index_fills_it(
        self, make_llm: MakeLLM
    ) -> None:
        found = make_llm(max_tokens=60).structured_predict(Town, PromptTemplate("Near {place}?"))
        assert type(found) is Town


class TestECalls:
    @pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"a": ' + "[" * 100_000])
    def test_a_call_of_any_depth_can_be_looked_at(self, llm: Aquila2, text: str) -> None:
        """G5: agents look at every piece of a stream; nesting is no RecursionError."""
        block = ToolCallBlock(tool_name="add", tool_kwargs=text)
        message = ChatMessage(role="assistant", blocks=[block])
        (call,) = llm.get_tool_calls_from_response(ChatResponse(message=message))
        assert call.tool_kwargs == {}

    @pytest.mark.parametrize("kind", ["deep", "circular"])
    def test_a_call_that_is_no_json_is_refused_in_a_history(self, llm: Aquila2, kind: str) -> None:
        """P10: by a named error, before anything is computed."""
        arguments: dict[str, Any] = {}
        inner = arguments
        for _ in range(20_000):
            inner["a"] = {}
            inner = inner["a"]
        if kind == "circular":
            arguments = {"first": 1}
            arguments["again"] = arguments
        # As it is left in a conversation by code that does not check.
        block = ToolCallBlock.model_construct(
            block_type="tool_call", tool_name="add", tool_kwargs=arguments, tool_call_id="1"
        )
        said = [ChatMessage("Hi"), ChatMessage(role="assistant", blocks=[block])]
        # Without an event: LlamaIndex writes those down before it calls anybody.
        with pytest.raises(InvalidPromptError, match="add"):
            llm._chat_call([*said, ChatMessage("And?")], {})
        while isinstance(arguments.get("a"), dict):
            arguments = arguments["a"]  # taken apart, or freeing it would recurse

    def test_what_json_does_not_know_is_said_in_words(self, llm: Aquila2) -> None:
        block = ToolCallBlock(tool_name="add", tool_kwargs={"a": {1, 2}})
        call = llm._chat_call([ChatMessage(role="assistant", blocks=[block])], {})
        assert call.messages is not None
        assert json.loads(json.dumps(call.messages[0].tool_calls[0].arguments)) == {"a": "{1, 2}"}
