"""F. Calls and their results as messages of a conversation."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock

from aquila2_runtime import Message, ToolCall
from llamaindex_aquila2._messages import to_runtime_messages


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
