"""Tools and structured output: what is not there says so; what core offers works."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from llamaindex_aquila2 import Aquila2


class Town(BaseModel):
    """A town."""

    name: str


def add(first: int, second: int) -> int:
    """Add two numbers."""
    return first + second


class TestFTools:
    def test_tool_calls_are_refused_clearly(self, llm: Aquila2) -> None:
        """A8: never LlamaIndex's unrelated error from inside its fallback."""
        tools = [FunctionTool.from_defaults(add)]
        calls = [
            lambda: llm.chat_with_tools(tools, "1 + 2?"),
            lambda: llm.stream_chat_with_tools(tools, "1 + 2?", tool_required=True),
            lambda: asyncio.run(llm.achat_with_tools(tools, "1 + 2?")),
            lambda: asyncio.run(llm.astream_chat_with_tools(tools, "1 + 2?")),
            lambda: llm.predict_and_call(tools, "1 + 2?"),
            lambda: asyncio.run(llm.apredict_and_call(tools, "1 + 2?")),
            lambda: llm.get_tool_calls_from_response(llm.chat([ChatMessage("1 + 2?")])),
        ]
        for call in calls:
            with pytest.raises(NotImplementedError, match="not trained for tools"):
                call()
        assert not llm.metadata.is_function_calling_model

    def test_structured_predict_reaches_the_model_by_core_s_text_program(
        self, llm: Aquila2
    ) -> None:
        """A small model may fail to write JSON; then core's parser says so, nothing else."""
        prompt = PromptTemplate("Name a town near {place}.")
        try:
            town = llm.structured_predict(Town, prompt, place="Rome")
        except ValueError as error:
            assert "json" in str(error).lower()
        else:
            assert isinstance(town, Town)
