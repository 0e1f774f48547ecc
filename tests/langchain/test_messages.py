"""Messages that are malformed in ways LangChain's own types let through."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core import exceptions as core
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from aquila2_runtime import Message, ToolCall
from aquila2_runtime import errors as ours
from aquila2_runtime.instructions import with_instruction
from langchain_aquila2 import ChatAquila2
from langchain_aquila2._messages import MAX_DEPTH, to_runtime_messages


def nested(depth: int, inner: object = "x") -> Any:
    for _ in range(depth):
        inner = [{"type": "tool_result", "content": inner}]
    return inner


def circular() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["itself"] = value
    return value


def deep_json(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    return value


class Unspeakable:
    """A value whose str and repr raise."""

    def __repr__(self) -> str:
        raise ValueError("no repr")


CONTENTS = {
    "a number": 5,
    "None": None,
    "a mapping": {"type": "text", "text": "x"},
    "a result that is a number": [{"type": "tool_result", "content": 5}],
    "a result that is a mapping": [{"type": "tool_result", "content": {"a": 1}}],
    "results in results": nested(3_000),
    "one level too many": nested(MAX_DEPTH + 1),
    "a type that is a list": [{"type": ["text"], "text": "x"}],
    "a type that is deep": [{"type": nested(3_000)}],
    "a type that cannot be shown": [{"type": Unspeakable()}],
    "no type": [{"text": "x"}],
    "keys that are numbers": [{1: 2}],
    "text that is none": [{"type": "text", "text": 5}],
    "text that is missing": [{"type": "text"}],
    "a block that is a number": [5],
    "a block that is a list": [["text"]],
    "an id that is a list": [{"type": "tool_use", "id": [1], "name": "f", "input": {}}],
    "a name that is a mapping": [{"type": "tool_use", "id": "1", "name": {"a": 1}, "input": {}}],
    "arguments with odd keys": [{"type": "tool_use", "id": "1", "name": "f", "input": {(1,): 2}}],
    "arguments in a circle": [{"type": "tool_use", "id": "1", "name": "f", "input": circular()}],
    "deep arguments": [{"type": "tool_use", "id": "1", "name": "f", "input": deep_json(100_000)}],
    "an argument that cannot be shown": [
        {"type": "tool_use", "id": "1", "name": "f", "input": {"a": Unspeakable()}}
    ],
}
KINDS: dict[str, type[BaseMessage]] = {
    "human": HumanMessage,
    "ai": AIMessage,
    "system": SystemMessage,
    "tool": ToolMessage,
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_malformed_content_is_refused_by_an_error_of_both_kinds(kind: str, content: object) -> None:
    """P10: no TypeError, no RecursionError, and nothing is loaded for it."""
    fields: dict[str, Any] = {"content": content, "type": kind, "name": None}
    if kind == "ai":
        fields |= {"tool_calls": [], "invalid_tool_calls": []}
    message = KINDS[kind].model_construct(**fields)
    model = ChatAquila2(model="nowhere")
    for ask in (model._generate, model.get_num_tokens_from_messages):
        with pytest.raises(ours.InvalidPromptError) as caught:
            ask([message])
        assert isinstance(caught.value, core.ModelInvalidRequestError)
        assert "0" in str(caught.value)
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "call",
    [5, "x", {"name": 5, "args": {}}, {"name": "f", "args": {(1,): 2}}, {"name": "f", "id": [1]}],
    ids=str,
)
def test_malformed_tool_calls_are_refused(call: object) -> None:
    """P10."""
    written = [{"type": "tool_use", "id": "1", "name": "g", "input": {}}]
    message = AIMessage.model_construct(
        content=written, type="ai", name=None, tool_calls=[call], invalid_tool_calls=[]
    )
    with pytest.raises(ours.InvalidPromptError):
        to_runtime_messages([message])


@pytest.mark.parametrize("role", [5, None, ["user"], "narrator", nested(3_000)])
def test_a_role_that_does_not_exist_is_refused(role: object) -> None:
    """P10."""
    message = ChatMessage.model_construct(content="x", role=role, type="chat", name=None)
    with pytest.raises(ours.InvalidPromptError, match="role"):
        ChatAquila2(model="nowhere")._generate([message])


@pytest.mark.parametrize("thing", ["hi", 5, None, {"role": "user"}])
def test_what_is_no_message_is_refused(thing: object) -> None:
    """P10."""
    with pytest.raises(ours.InvalidPromptError):
        ChatAquila2(model="nowhere").get_num_tokens_from_messages([thing])  # type: ignore[list-item]


def told(*messages: BaseMessage) -> list[Message]:
    return to_runtime_messages(messages)


CALL = {"name": "f", "args": {"a": [1, "二"]}, "id": "1"}
MADE = ToolCall("f", {"a": [1, "二"]})


def test_calls_and_results_in_both_forms_are_the_same_turns() -> None:
    """``tool_calls`` and ``ToolMessage``, or Anthropic's blocks."""
    use = {"type": "tool_use", "id": "1", "name": "f", "input": CALL["args"]}
    plain = told(
        HumanMessage("go"),
        AIMessage("so", tool_calls=[CALL]),
        ToolMessage("7", tool_call_id="1", name="f"),
    )
    assert plain == [
        Message("user", "go"),
        Message("assistant", "so", tool_calls=(MADE,)),
        Message("tool", "7", "f", tool_call_id="1"),
    ]
    blocks = told(
        HumanMessage("go"),
        AIMessage([{"type": "text", "text": "so"}, use], tool_calls=[CALL]),
        HumanMessage([{"type": "tool_result", "tool_use_id": "1", "content": "7"}]),
    )
    assert blocks == plain
    asked = told(
        AIMessage([use]),
        HumanMessage(
            [
                {"type": "tool_result", "tool_use_id": "1", "is_error": True,
                 "content": [{"type": "text", "text": "no"}]},
                {"type": "text", "text": "Try again."},
            ]
        ),
    )  # fmt: skip
    assert asked[1:] == [
        Message("tool", "Error: no", "f", tool_call_id="1"),
        Message("user", "Try again."),
    ]


def test_a_result_gets_the_name_of_its_call_and_says_when_it_failed() -> None:
    [_, result] = told(
        AIMessage("", tool_calls=[CALL]), ToolMessage("no", tool_call_id="1", status="error")
    )
    assert result == Message("tool", "Error: no", "f", tool_call_id="1")


def test_a_call_written_as_block_and_as_call_is_told_once() -> None:
    use = {"type": "tool_use", "id": "1", "name": "f", "input": CALL["args"]}
    assert told(AIMessage([use], tool_calls=[{**CALL, "id": "2"}]))[0].tool_calls == (MADE, MADE)
    assert told(AIMessage([use], tool_calls=[CALL]))[0].tool_calls == (MADE,)


def test_a_call_that_was_edited_is_told_as_it_was_run() -> None:
    """Middleware edits ``tool_calls``; a message's blocks keep what the model wrote."""
    block = {"type": "tool_call", **CALL, "args": {"a": "stale"}}
    edited = AIMessage([block, {"type": "text", "text": "so"}], tool_calls=[CALL])
    assert told(edited) == [Message("assistant", "so", tool_calls=(MADE,))]
    other = AIMessage([block], tool_calls=[{**CALL, "name": "g"}])
    [_, result] = told(other, ToolMessage("7", tool_call_id="1"))
    assert result.name == "g"
    unread = {"name": "f", "args": "{", "id": "1", "error": None, "type": "invalid_tool_call"}
    both = AIMessage([block], tool_calls=[CALL], invalid_tool_calls=[unread])
    assert told(both) == [Message("assistant", "", tool_calls=(MADE,))]


def test_streamed_blocks_of_other_providers_are_told_with_their_arguments_and_once() -> None:
    streamed = {"type": "tool_use", "id": "1", "name": "f", "input": {}, "index": 1}
    whole = {**streamed, "partial_json": '{"a": [1, "二"]}'}
    for message in (AIMessage([whole]), AIMessage([whole], tool_calls=[CALL])):
        assert told(message) == [Message("assistant", "", tool_calls=(MADE,))]
    [cut] = told(AIMessage([{**streamed, "partial_json": '{"a": '}]))
    assert cut.content == '<tool_call>{"name": "f", "arguments": {"a": }</tool_call>'
    item = {"type": "function_call", "id": "fc_1", "call_id": "1", "name": "f", "arguments": "{}"}
    for message in (AIMessage([item], tool_calls=[CALL]), AIMessage([item])):
        [turn, result] = told(message, ToolMessage("7", tool_call_id="1"))
        assert [call.name for call in turn.tool_calls] == ["f"]
        assert result.name == "f"


def test_a_function_call_of_older_histories_is_told_with_its_result() -> None:
    """Its message was an empty turn."""
    older = {"function_call": {"name": "f", "arguments": json.dumps(CALL["args"])}}
    result = FunctionMessage("7", name="f")
    assert told(HumanMessage("go"), AIMessage("", additional_kwargs=older), result) == [
        Message("user", "go"),
        Message("assistant", "", tool_calls=(MADE,)),
        Message("tool", "7", "f"),
    ]
    both = AIMessage("", tool_calls=[CALL], additional_kwargs=older)
    assert told(both) == [Message("assistant", "", tool_calls=(MADE,))]


def test_a_call_that_was_cut_short_is_told_as_text() -> None:
    broken = {"name": "f", "args": '{"a": ', "id": "1", "error": None, "type": "invalid_tool_call"}
    [message] = told(AIMessage("so", invalid_tool_calls=[broken]))
    assert message.tool_calls == ()
    assert message.content == 'so\n<tool_call>{"name": "f", "arguments": {"a": }</tool_call>'


def test_calls_in_other_messages_are_text_and_results_in_results_too() -> None:
    use = {"type": "tool_use", "id": "1", "name": "f", "input": CALL["args"]}
    assert told(HumanMessage([use])) == [Message("user", MADE.text)]
    inner = [{"type": "tool_result", "content": [{"type": "text", "text": "deep"}]}]
    assert told(ToolMessage(inner, tool_call_id="9")) == [Message("tool", "deep", tool_call_id="9")]
    assert told(HumanMessage(nested(MAX_DEPTH))) == [Message("tool", "x")]


def test_an_agent_s_name_is_not_said_before_a_bare_call() -> None:
    assert told(AIMessage("hi", name="bob"))[0].name == "bob"
    assert told(AIMessage("", name="bob", tool_calls=[CALL]))[0].name is None


def test_an_instruction_stands_behind_the_user_s_last_message() -> None:
    turns = [
        Message("system", "S"),
        Message("user", "A"),
        Message("assistant", "", tool_calls=(MADE,)),
        Message("tool", "7"),
    ]
    assert with_instruction(turns, "")[1].content == "A"
    assert with_instruction(turns, "Answer")[1].content == "A\n\nAnswer"
    assert with_instruction(turns[:1], "Answer")[0].content == "S\n\nAnswer"
    assert with_instruction(turns[2:], "Answer")[0] == Message("system", "Answer")


def test_names_stand_in_the_turns_and_v1_blocks_are_read_as_text() -> None:
    named = told(HumanMessage("Hi", name="Lena"), AIMessage("Hello", name="bot"))
    assert [turn.name for turn in named] == ["Lena", "bot"]
    blocks: list[Any] = [
        {"type": "text", "text": "one"},
        {"type": "text-plain", "mime_type": "text/plain", "text": "two"},
    ]
    thought: list[Any] = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "so"}]
    made = AIMessage(content_blocks=[*thought, {"type": "tool_call", **CALL}])
    assert told(HumanMessage(content_blocks=blocks), made) == [
        Message("user", "one\ntwo"),
        Message("assistant", "so", tool_calls=(MADE,)),
    ]


@pytest.mark.parametrize("kind", ["image", "audio", "video", "file"])
def test_v1_blocks_of_other_kinds_are_refused_by_name_and_not_fetched(kind: str) -> None:
    block: Any = {"type": kind, "url": "http://example.invalid/x"}
    with pytest.raises(ours.UnsupportedContentError) as caught:
        ChatAquila2(model="nowhere").invoke([HumanMessage(content_blocks=[block])])
    assert caught.value.value == kind
