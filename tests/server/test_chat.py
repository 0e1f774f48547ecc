"""Conversations over HTTP, asked by OpenAI's client: its answers are the runtime's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
from tests.server.conftest import DOCUMENT

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]
QUESTION = f"{DOCUMENT}\n\nWhere is the office of Oak Ltd?"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]
Chat = Callable[..., Any]


def test_an_answer_is_the_runtimes_with_its_counts(
    chat: Chat, demo_runtime: Aquila2Runtime
) -> None:
    said = chat(QUESTION)
    own = demo_runtime.chat(
        [Message("user", QUESTION)], SamplingParams(temperature=0, max_tokens=40)
    )
    (choice,) = said.choices
    assert (choice.message.role, choice.message.content) == ("assistant", own.text)
    assert choice.finish_reason == own.finish_reason == "stop"
    assert choice.message.tool_calls is None
    assert said.object == "chat.completion"
    assert said.usage.prompt_tokens == len(own.prompt_token_ids)
    assert said.usage.completion_tokens == len(own.token_ids)
    assert said.usage.total_tokens == own.usage.total_tokens


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_tokens": 2},
        {"temperature": 1, "seed": 7, "top_p": 0.9},
        {"stop": ["r"]},
        {"logprobs": True, "top_logprobs": 2},
        {"tools": TOOLS},
        {
            "tools": TOOLS,
            "tool_choice": "required",
            "parallel_tool_calls": False,
            "max_tokens": 120,
        },
    ],
)
def test_a_stream_says_what_a_whole_answer_says(chat: Chat, fields: dict[str, Any]) -> None:
    whole = chat(QUESTION, **fields)
    pieces = list(chat(QUESTION, stream=True, stream_options={"include_usage": True}, **fields))
    assert len({piece.id for piece in pieces}) == 1
    assert pieces[0].choices[0].delta.role == "assistant"
    told, last = [p.choices[0] for p in pieces if p.choices], pieces[-1]
    assert last.choices == []
    assert all(p.usage is None and "usage" in p.model_fields_set for p in pieces[:-1])
    assert last.usage.to_dict() | {"prompt_tokens_details": None} == (
        whole.usage.to_dict() | {"prompt_tokens_details": None}
    )
    (choice,) = whole.choices
    said = "".join(piece.delta.content or "" for piece in told)
    assert said == (choice.message.content or "")
    assert [c.finish_reason for c in told if c.finish_reason] == [choice.finish_reason]
    assert told[-1].finish_reason == choice.finish_reason
    if fields.get("logprobs"):
        entries = [e for piece in told if piece.logprobs for e in piece.logprobs.content]
        assert [e.token for e in entries] == [e.token for e in choice.logprobs.content]
        assert all(len(entry.top_logprobs) == 2 for entry in entries)
        assert b"".join(bytes(e.bytes) for e in entries).decode() == choice.message.content
    calls = [call for piece in told for call in piece.delta.tool_calls or ()]
    if fields.get("tool_choice"):
        (made,) = choice.message.tool_calls
        assert choice.finish_reason == "tool_calls"
        assert next(call.id for call in calls if call.id).startswith("call-")
        assert [call.function.name for call in calls if call.function.name] == ["get_weather"]
        joined = "".join(call.function.arguments or "" for call in calls)
        assert json.loads(joined) == json.loads(made.function.arguments)
        assert set(json.loads(joined)) == {"city"}
    else:
        assert not calls


def test_several_answers_are_numbered_and_follow_their_seeds(chat: Chat) -> None:
    asked = {"n": 6, "temperature": 2.0, "max_tokens": 12, "seed": 3}
    first, again = chat(QUESTION, **asked), chat(QUESTION, **asked)
    assert [choice.index for choice in first.choices] == list(range(6))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in again.choices]
    assert len(set(texts)) > 1


def test_a_tool_is_called_and_its_result_answered(chat: Chat) -> None:
    turns: list[Any] = [{"role": "user", "content": "What is the weather in Graz?"}]
    called = chat(turns, tools=TOOLS, tool_choice="required").choices[0].message
    (call,) = called.tool_calls
    # As clients do it: the message is copied as it came.
    turns += [called.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "snow"}]
    answer = chat(turns, tools=TOOLS)
    assert answer.choices[0].finish_reason in ("stop", "tool_calls")
    shown = [
        Message("user", "What is the weather in Graz?"),
        Message("tool", "snow", "get_weather"),
    ]
    assert answer.usage.prompt_tokens > sum(len(m.content) // 8 for m in shown)


def test_a_results_tool_is_named_to_the_model_by_its_calls_id(
    chat: Chat, demo_runtime: Aquila2Runtime
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
    ]
    from aquila2_runtime import ToolCall

    own = demo_runtime.render(
        [
            Message("user", "What time is it?"),
            Message("assistant", "", tool_calls=(ToolCall("now", {}),)),
            Message("tool", "noon", "now", tool_call_id="c1"),
        ]
    )
    assert chat(turns).usage.prompt_tokens == len(own)


@pytest.mark.parametrize("strict", [True, False])
def test_an_answer_has_the_form_that_is_asked_for(chat: Chat, strict: bool) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "director": {"type": "string"}},
        "required": ["city", "director"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "o", "schema": schema, "strict": strict}}
    said = json.loads(chat(DOCUMENT, response_format=form).choices[0].message.content)
    assert set(said) == {"city", "director"}
    free = chat(DOCUMENT, response_format={"type": "json_object"}).choices[0].message.content
    assert isinstance(json.loads(free), dict)
    assert chat(QUESTION, response_format={"type": "text"}).choices[0].message.content


def test_what_cannot_be_enforced_is_told_or_refused(raw: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    for strict, expected in ((False, 200), (True, 400)):
        inner = {"name": "o", "schema": schema, "strict": strict}
        form = {"type": "json_schema", "json_schema": inner}
        status, _, said = raw.chat(response_format=form, max_tokens=30)
        assert status == expected
        assert "uniqueItems" in str(said["notices"] if status == 200 else said["error"]["message"])


def test_messages_come_in_every_form(chat: Chat, demo_runtime: Aquila2Runtime) -> None:
    parts = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "again"}]
    said = chat([{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}])
    own = demo_runtime.render([Message("system", "Be brief."), Message("user", "Hello\nagain")])
    assert said.usage.prompt_tokens == len(own)


def test_both_names_of_the_token_limit_are_known(chat: Chat, raw: Any) -> None:
    said = chat(QUESTION, max_tokens=None, max_completion_tokens=1)
    assert said.choices[0].finish_reason == "length"
    assert said.usage.completion_tokens == 1
    status, _, told = raw.chat(max_completion_tokens=3)
    assert (status, told["error"]["param"]) == (400, "max_completion_tokens")


def test_the_prefix_of_an_earlier_question_is_not_computed_again(chat: Chat) -> None:
    long = " ".join(f"Room {i} of house {i % 7} has {i % 9} chairs." for i in range(40))
    chat(f"{long}\n\nHow many chairs has room 3?")
    second = chat(f"{long}\n\nHow many chairs has room 8?")
    details = second.usage.prompt_tokens_details
    assert details.cached_tokens > second.usage.prompt_tokens // 2


def test_models_are_listed_and_described(client: Any, demo_runtime: Aquila2Runtime) -> None:
    (model,) = client.models.list().data
    assert model.id == "aquila2-demo"
    assert model.max_model_len == demo_runtime.info.max_model_len
    assert client.models.retrieve("aquila2-demo").id == "aquila2-demo"
