"""Messages that are malformed in ways LangChain's own types let through."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core import exceptions as core
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from aquila2_runtime import errors as ours
from langchain_aquila2 import ChatAquila2
from langchain_aquila2._messages import MAX_DEPTH, message_text


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
    if kind != "ai" and content is CONTENTS["an id that is a list"]:
        # Only an answer's own calls are told apart by their ids.
        assert message_text(message) == "f({})"
        return
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
        message_text(message)


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


def test_results_and_calls_that_are_well_formed_are_text() -> None:
    """What was accepted before still is."""
    assert message_text(HumanMessage(nested(MAX_DEPTH))) == "x"
    result = {"type": "tool_result", "is_error": True, "content": [{"type": "text", "text": "no"}]}
    assert message_text(HumanMessage([result])) == "Error: no"
    assert message_text(HumanMessage([{"type": "tool_result"}])) == ""
    use = {"type": "tool_use", "id": "1", "name": "f", "input": {"a": [1, "二"]}}
    call = {"name": "f", "args": {"a": [1, "二"]}, "id": "1"}
    both = AIMessage([{"type": "text", "text": "so"}, use], tool_calls=[call])
    assert message_text(both) == 'so\nf({"a": [1, "二"]})'
    other = AIMessage([use], tool_calls=[{**call, "id": "2"}])
    assert message_text(other).count("f(") == 2
    assert message_text(AIMessage("", tool_calls=[call])) == 'f({"a": [1, "二"]})'
