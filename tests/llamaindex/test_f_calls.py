"""F. Calls and their results as messages of a conversation, and calls that were cut in two."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock

from aquila2_runtime import (
    Aquila2Runtime,
    FinishReason,
    Message,
    RequestTimeoutError,
    ToolCall,
)
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2._messages import to_runtime_messages
from llamaindex_aquila2.conformance.tools import ADD
from tests.llamaindex.scripted import scripted_runtime


def test_what_only_looks_like_a_call_is_text() -> None:
    def content(role: str, arguments: Any) -> str:
        block = ToolCallBlock(tool_name="add", tool_kwargs=arguments)
        (converted,) = to_runtime_messages([ChatMessage(role=role, blocks=[block])])
        assert converted.tool_calls == ()
        return converted.content

    assert content("assistant", '{"a": ') == 'add({"a": )'
    assert content("user", {"a": 1}) == ToolCall("add", {"a": 1}).text


def test_a_result_is_named_after_the_call_that_it_answers() -> None:
    call = ToolCallBlock(tool_call_id="call-1", tool_name="add", tool_kwargs='{"a": 1}')
    converted = to_runtime_messages(
        [
            ChatMessage("1 + 1?"),
            ChatMessage(role="assistant", blocks=[call]),
            ChatMessage("2", role="tool", additional_kwargs={"tool_call_id": "call-1"}),
            ChatMessage("3", role="tool", additional_kwargs={"tool_call_id": "call-9"}),
        ]
    )
    assert converted[1:] == [
        Message("assistant", "", tool_calls=(ToolCall("add", {"a": 1}),)),
        Message("tool", "2", name="add", tool_call_id="call-1"),
        Message("tool", "3", tool_call_id="call-9"),
    ]


@pytest.mark.parametrize("written", ["", '<tool_call>{"name": "add", "argum'])
def test_a_call_that_the_time_limit_cut_in_two_says_so(
    demo_runtime: Aquila2Runtime, written: str
) -> None:
    """As an object does; it was said to call no tool."""
    runtime, engine = scripted_runtime(demo_runtime, 2_048, 0)
    engine.reason = FinishReason.TIMEOUT
    llm = Aquila2.from_runtime(runtime, max_tokens=64)
    engine.script = [f"Well. {written}"] * 4
    with pytest.raises(RequestTimeoutError, match="before a tool call was complete"):
        llm.predict_and_call([ADD], "12 + 30?", tool_required=False)
    with pytest.raises(RequestTimeoutError, match="before a tool call was complete"):
        asyncio.run(llm.apredict_and_call([ADD], "12 + 30?", tool_required=False))
    told = llm.predict_and_call([ADD], "12 + 30?", error_on_no_tool_call=False)
    assert told.response.startswith("Well.")
    # By itself it may end without a call, which is another error.
    engine.reason = FinishReason.STOP
    with pytest.raises(ValueError, match="calls no tool"):
        llm.predict_and_call([ADD], "12 + 30?", tool_required=False)
