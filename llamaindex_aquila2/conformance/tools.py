"""F. Tools: calls that fit their schemas, in every method that LlamaIndex has for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.tools import FunctionTool

from llamaindex_aquila2.conformance.suite import Suite

TOOL_METHODS: Final = (
    "chat_with_tools",
    "achat_with_tools",
    "stream_chat_with_tools",
    "astream_chat_with_tools",
)


def add(first: int, second: int) -> int:
    """Add two numbers."""
    return first + second


def now() -> str:
    """Get the time."""
    return "12:05"


ADD: Final = FunctionTool.from_defaults(add)
NOW: Final = FunctionTool.from_defaults(now)


def ask_with_tools(
    llm: Any, method: str, tools: Sequence[Any], **kwargs: Any
) -> list[ChatResponse]:
    """All responses of any of the four methods."""
    kwargs.setdefault("user_msg", "What is 12 + 30?")

    async def aask() -> list[ChatResponse]:
        result = await getattr(llm, method)(tools, **kwargs)
        return [item async for item in result] if "stream" in method else [result]

    if method.startswith("a"):
        return asyncio.run(aask())
    result = getattr(llm, method)(tools, **kwargs)
    return list(result) if "stream" in method else [result]


class ToolTests(Suite):
    """Point 20."""

    def caller(self, tokens: int, **fields: Any) -> FunctionCallingLLM:
        """A model that calls functions."""
        llm = self.at_most(tokens, **fields)
        if not isinstance(llm, FunctionCallingLLM):
            pytest.fail(f"{type(llm).__name__} is no FunctionCallingLLM")
        return llm

    @pytest.mark.parametrize("method", TOOL_METHODS)
    def test_f20_a_required_call_is_made_and_fits_its_schema(self, method: str) -> None:
        """In the last chunk of a stream, which is what agents read."""
        llm = self.caller(64)
        last = ask_with_tools(llm, method, [ADD, NOW], tool_required=True)[-1]
        (call,) = llm.get_tool_calls_from_response(last)
        assert call.tool_name in {"add", "now"}
        expected = {"first", "second"} if call.tool_name == "add" else set()
        assert set(call.tool_kwargs) == expected
        assert all(type(value) is int for value in call.tool_kwargs.values())
        json.dumps(last.model_dump())

    def test_f20_one_call_at_most_where_several_are_not_allowed(self) -> None:
        """``predict_and_call`` raises on more."""
        llm = self.caller(120)
        kwargs: dict[str, Any] = {"tool_required": True, "allow_parallel_tool_calls": False}
        (response,) = ask_with_tools(llm, "chat_with_tools", [NOW], **kwargs)
        assert len(llm.get_tool_calls_from_response(response)) == 1

    def test_f20_the_caller_s_history_and_tools_stay_as_they_were(self) -> None:
        """LlamaIndex's own integrations add to the list they are given."""
        llm = self.caller(40)
        history = [ChatMessage("Hello"), ChatMessage("Hi", role="assistant")]
        tools = [ADD]
        ask_with_tools(llm, "chat_with_tools", tools, chat_history=history)
        assert [message.content for message in history] == ["Hello", "Hi"]
        assert tools == [ADD]

    def test_f20_a_tool_is_called_and_its_result_is_the_answer(self) -> None:
        """By ``predict_and_call`` and its async twin, alike."""
        llm = self.at_most(64)
        told = llm.predict_and_call([ADD], "What is 12 + 30?")
        (output,) = told.sources
        numbers = output.raw_input["kwargs"]
        assert told.response == str(numbers["first"] + numbers["second"])
        again = asyncio.run(llm.apredict_and_call([ADD], "What is 12 + 30?"))
        assert again.response == told.response
