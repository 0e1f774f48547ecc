"""Tools: what is bound, what is called, how calls stream, and agents over all of it.

The demo's weights decide whom it calls and why; what is asserted here holds for any weights,
because forced calls are a matter of the grammar.
"""

from __future__ import annotations

import json
from typing import Any, TypedDict

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableBinding
from langchain_core.tools import tool
from pydantic import BaseModel

from aquila2_runtime import Aquila2Runtime, Message, Regex, Tool
from aquila2_runtime import errors as ours
from langchain_aquila2 import ChatAquila2
from langchain_aquila2._demand import demand_of
from tests.langchain.support import MakeChat

ASK = "How is the weather in Paris?"
WILD = {"temperature": 1.5, "top_p": 1.0}


@tool
def get_weather(city: str, days: int = 1) -> str:
    """Get the weather of a city."""
    return f"{city}: sunny for {days} days"


@tool
def now() -> str:
    """Get the time."""
    return "12:00"


class Person(BaseModel):
    """A person."""

    name: str
    age: int


class Place(TypedDict):
    """A place."""

    name: str


@pytest.fixture
def chat(make_chat: MakeChat) -> ChatAquila2:
    return make_chat(max_tokens=64)


def joined(chunks: list[Any]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


def valid(call: Any) -> bool:
    if call["name"] == "now":
        return call["args"] == {}
    args = call["args"]
    return call["name"] == "get_weather" and isinstance(args["city"], str)


@pytest.mark.parametrize(
    "kind",
    [
        get_weather,
        Person,
        Place,
        {"title": "f", "type": "object", "properties": {"a": {"type": "integer"}}},
        {"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}},
        {"type": "function", "function": {"name": "f", "parameters": {}}},
    ],
    ids=["tool", "pydantic", "TypedDict", "schema", "Anthropic", "OpenAI"],
)
def test_a_tool_of_every_kind_is_bound_and_called(chat: ChatAquila2, kind: Any) -> None:
    bound = chat.bind_tools([kind], tool_choice="any")
    assert isinstance(bound, RunnableBinding)
    answer = bound.invoke(ASK)
    name = bound.kwargs["tools"][0]["function"]["name"]
    assert {call["name"] for call in answer.tool_calls} == {name}
    assert json.dumps(bound.kwargs["tools"])


@pytest.mark.parametrize("form", ["Responses", "MCP"])
def test_a_tool_in_another_api_s_form_keeps_its_arguments(form: str) -> None:
    """One was taken for a server's own, the other for a tool without arguments."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    function = {"name": "f", "description": "d", "parameters": schema}
    told: dict[str, Any] = {"type": "function", **function}
    if form == "MCP":
        told = {"name": "f", "title": "F", "description": "d", "inputSchema": schema}
    bound = ChatAquila2(model="nowhere").bind_tools([told], tool_choice="f")
    assert isinstance(bound, RunnableBinding)
    assert bound.kwargs["tools"] == [{"type": "function", "function": function}]


@pytest.mark.parametrize("choice", ["any", "required", True, {"type": "any"}])
def test_a_call_is_made_whatever_the_weights_say(chat: ChatAquila2, choice: Any) -> None:
    answer = chat.bind_tools([get_weather, now], tool_choice=choice).invoke("Hello!")
    assert answer.tool_calls
    assert all(valid(call) for call in answer.tool_calls)
    assert answer.content == ""
    assert len({call["id"] for call in answer.tool_calls}) == len(answer.tool_calls)


@pytest.mark.parametrize(
    "choice",
    ["now", {"type": "function", "function": {"name": "now"}}, {"type": "tool", "name": "now"}],
    ids=lambda given: str(given)[:60],
)
def test_a_named_tool_is_called_once_and_the_answer_ends_for_it(
    chat: ChatAquila2, choice: Any
) -> None:
    answer = chat.bind_tools([get_weather, now], tool_choice=choice).invoke("Hello!")
    [call] = answer.tool_calls
    assert (call["name"], call["args"], call["type"]) == ("now", {}, "tool_call")
    assert answer.response_metadata["finish_reason"] == "tool_calls"
    assert not answer.invalid_tool_calls


def test_with_none_nothing_is_called_and_no_tool_is_shown(chat: ChatAquila2) -> None:
    answer = chat.bind_tools([get_weather], tool_choice="none").invoke("Hello!")
    assert not answer.tool_calls
    plain = chat.invoke("Hello!").usage_metadata
    assert answer.usage_metadata["input_tokens"] == plain["input_tokens"]


def test_one_call_at_most_where_parallel_calls_are_off(make_chat: MakeChat) -> None:
    chat = make_chat(max_tokens=100, **WILD)
    bound = chat.bind_tools([get_weather, now], tool_choice="any", parallel_tool_calls=False)
    for seed in range(4):
        assert len(bound.invoke(ASK, seed=seed).tool_calls) == 1


@pytest.mark.parametrize("kind", ["auto", "any", "tool"])
def test_a_choice_in_anthropic_s_form_says_whether_calls_are_parallel(kind: str) -> None:
    """It was read, and that part of it left out."""
    choice = {"type": kind, "name": "now"} if kind == "tool" else {"type": kind}
    bound = ChatAquila2(model="nowhere").bind_tools
    for said, found in ((True, False), (False, True)):
        told = bound([now], tool_choice={**choice, "disable_parallel_tool_use": said})
        assert isinstance(told, RunnableBinding)
        assert demand_of(told.kwargs).options["parallel_tool_calls"] is found
    told = bound([now], tool_choice=choice)
    assert isinstance(told, RunnableBinding)
    assert "parallel_tool_calls" not in demand_of(told.kwargs).options


def test_calls_stream_as_name_and_id_once_and_arguments_in_fragments(chat: ChatAquila2) -> None:
    bound = chat.bind_tools([get_weather, now], tool_choice="get_weather")
    chunks = list(bound.stream(ASK))
    pieces = [piece for chunk in chunks for piece in chunk.tool_call_chunks]
    assert [piece["name"] for piece in pieces if piece["name"]] == ["get_weather"]
    assert len([piece["id"] for piece in pieces if piece["id"]]) == 1
    assert {piece["index"] for piece in pieces} == {1}
    assert len(pieces) > 4
    whole = joined(chunks)
    assert json.loads("".join(piece["args"] for piece in pieces)) == whole.tool_calls[0]["args"]
    told = bound.invoke(ASK)
    assert whole.tool_calls[0]["args"] == told.tool_calls[0]["args"]
    reasons = (whole.response_metadata["finish_reason"], told.response_metadata["finish_reason"])
    assert reasons[0] == reasons[1]
    assert whole.usage_metadata["output_tokens"] == told.usage_metadata["output_tokens"]


def test_an_answer_closed_at_its_limit_says_length(make_chat: MakeChat) -> None:
    endless = {
        "title": "f",
        "type": "object",
        "properties": {"a": {"type": "string", "minLength": 20}},
        "required": ["a"],
    }
    answer = make_chat(max_tokens=90, **WILD, seed=1).bind_tools([endless], tool_choice="f")
    told = answer.invoke("Hello!")
    assert len(told.tool_calls[0]["args"]["a"]) >= 20
    assert told.response_metadata["finish_reason"] in ("length", "tool_calls")
    assert told.usage_metadata["output_tokens"] <= 90


def test_counts_with_tools_are_the_prompt_s(chat: ChatAquila2, demo_runtime: Any) -> None:
    messages = [
        HumanMessage("go"),
        AIMessage("", tool_calls=[{"name": "now", "args": {}, "id": "1"}]),
        ToolMessage("12:00", tool_call_id="1"),
    ]
    counted = chat.get_num_tokens_from_messages(messages, tools=[get_weather, now])
    answer = chat.bind_tools([get_weather, now]).invoke(messages)
    assert answer.usage_metadata["input_tokens"] == counted
    assert counted > chat.get_num_tokens_from_messages(messages)


def test_the_prompt_has_the_documented_form(demo_runtime: Aquila2Runtime) -> None:
    from langchain_aquila2._demand import demand_of

    demand = demand_of({"tools": [get_weather]})
    [made] = demand.options["tools"]
    assert isinstance(made, Tool)
    ids = demo_runtime.render([Message("user", "hi")], tools=[made])
    text = demo_runtime.tokenizer.decode(ids)
    assert "- get_weather(city: string, days?: integer): Get the weather of a city." in text


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({"tools": "x"}, "tools"),
        ({"tools": [5]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [now, now]}, "tools"),
        ({"tools": [now], "tool_choice": "later"}, "tool_choice"),
        ({"tools": [], "tool_choice": "any"}, "tool_choice"),
        (
            {"tools": [now], "tool_choice": {"type": "auto", "disable_parallel_tool_use": "yes"}},
            "disable_parallel_tool_use",
        ),
        ({"tools": [now], "response_format": 5}, "schema"),
        ({"tools": [now], "response_format": {"type": "xml"}}, "response_format"),
        ({"tools": [now], "strict": "yes"}, "strict"),
    ],
    ids=lambda given: str(given)[:60],
)
def test_what_is_wrong_is_refused_by_name(given: dict[str, Any], parameter: str) -> None:
    with pytest.raises(ours.InvalidRequestError) as caught:
        ChatAquila2(model="nowhere").bind_tools(**given).invoke("x")
    assert caught.value.parameter == parameter


def test_a_strict_tool_refuses_what_cannot_be_enforced(chat: ChatAquila2) -> None:
    schema = {
        "title": "f",
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}},
    }
    with pytest.raises(ours.InvalidConstraintError, match="uniqueItems"):
        chat.bind_tools([schema], strict=True)
    answer = chat.bind_tools([schema], tool_choice="f").invoke("Hello!")
    assert any("uniqueItems" in notice for notice in answer.response_metadata["notices"])


@pytest.mark.parametrize("by", ["bind_tools", "call"])
def test_strict_is_heeded_of_a_tool_in_open_ai_s_form_too(by: str) -> None:
    """LangChain leaves such a dict as it is."""
    items = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    schema = {"type": "object", "properties": {"a": items}}
    function = {"name": "f", "parameters": schema}
    loose: dict[str, Any] = {"type": "function", "function": function}
    told = {"type": "function", "function": {**function, "strict": True}}
    model = ChatAquila2(model="nowhere")

    def ask(offered: Any, strict: bool | None) -> None:
        if by == "bind_tools":
            model.bind_tools([offered], strict=strict)
        else:
            model.invoke("Hello!", tools=[offered], strict=strict)

    for offered, strict in ((loose, True), (told, True), (told, None)):
        with pytest.raises(ours.InvalidConstraintError, match="uniqueItems"):
            ask(offered, strict)
    for offered, strict in ((loose, None), (loose, False), (told, False)):
        if by == "bind_tools":
            ask(offered, strict)
        else:
            with pytest.raises(ours.ModelNotFoundError):
                ask(offered, strict)
    assert "strict" not in loose["function"]


def test_a_constraint_of_the_runtime_s_own_holds(chat: ChatAquila2) -> None:
    answer = chat.bind(constraint=Regex("[0-9]{3}")).invoke("Hello!")
    assert len(str(answer.content)) == 3
    assert str(answer.content).isdigit()


def test_cache_keys_tell_tools_choices_and_forms_apart(chat: ChatAquila2) -> None:
    bound = [
        chat.bind_tools([now]),
        chat.bind_tools([now], tool_choice="any"),
        chat.bind_tools([get_weather]),
        chat.bind_tools([], response_format=Person),
        chat.bind_tools([], response_format={"type": "json_object"}),
        chat.bind(constraint=Regex("[0-9]+")),
        chat.bind(constraint=Regex("[0-9]*")),
    ]
    keys = [chat._get_llm_string(**one.kwargs) for one in bound]
    assert len(set(keys)) == len(keys)
    assert chat._get_llm_string(**chat.bind_tools([now]).kwargs) == keys[0]


async def test_every_way_of_asking_makes_the_same_call(chat: ChatAquila2) -> None:
    bound = chat.bind_tools([get_weather], tool_choice="get_weather")
    told = [call["args"] for call in bound.invoke(ASK).tool_calls]
    awaited = [call["args"] for call in (await bound.ainvoke(ASK)).tool_calls]
    streamed = joined([chunk async for chunk in bound.astream(ASK)])
    batched = bound.batch([ASK, ASK])
    assert awaited == told
    assert [call["args"] for call in streamed.tool_calls] == told
    assert all([call["args"] for call in one.tool_calls] == told for one in batched)


def test_usage_is_told_on_request_only(make_chat: MakeChat) -> None:
    chat = make_chat(max_tokens=3, stream_usage=False)
    assert joined(list(chat.stream("hi"))).usage_metadata is None
    assert joined(list(chat.stream("hi", stream_usage=True))).usage_metadata is not None
    with get_usage_metadata_callback() as usage:
        chat.invoke("hi")
    [counts] = usage.usage_metadata.values()
    assert counts["output_tokens"] == 3
