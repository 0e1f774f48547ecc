"""Constrained answers and tool calls through the whole runtime."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from aquila2_runtime import (
    AnyJson,
    Aquila2Runtime,
    Choice,
    FinishReason,
    InvalidConstraintError,
    InvalidPromptError,
    InvalidRequestError,
    JsonSchema,
    LarkGrammar,
    Message,
    Regex,
    SamplingParams,
    Tool,
    ToolCall,
)

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "age", "tags"],
}
ASK = [Message("user", "My name is Lena and I am 30 years old. Answer in JSON.")]
WEATHER = Tool(
    "get_weather",
    "Get the weather of a city.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
)
NOW = Tool("now", "Get the time.")


def free(**more: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 64, "temperature": 1.0, "seed": 3} | more)


def check(value: Any) -> None:
    assert list(value) == ["name", "age", "tags"]
    assert isinstance(value["name"], str)
    assert type(value["age"]) is int
    assert all(isinstance(tag, str) for tag in value["tags"])


@pytest.mark.parametrize("max_tokens", [28, 40, 90])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_schema_holds_whatever_the_token_limit_is(
    demo_runtime: Aquila2Runtime, max_tokens: int, temperature: float
) -> None:
    for seed in range(4):
        params = free(
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            constraint=JsonSchema(SCHEMA),
        )
        out = demo_runtime.chat(ASK, params)
        check(json.loads(out.text))
        assert json.dumps(json.loads(out.text), ensure_ascii=False) == out.text
        assert len(out.token_ids) <= max_tokens
        assert out.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)


def test_a_limit_that_no_answer_fits_is_refused_with_both_numbers(
    demo_runtime: Aquila2Runtime,
) -> None:
    with pytest.raises(InvalidConstraintError, match=r"has \d+ tokens.*room for 5") as caught:
        demo_runtime.chat(ASK, free(max_tokens=5, constraint=JsonSchema(SCHEMA)))
    assert caught.value.parameter == "max_tokens"


def test_a_choice_ends_with_stop_and_an_expression_matches(demo_runtime: Aquila2Runtime) -> None:
    out = demo_runtime.chat(ASK, free(constraint=Choice(["yes", "no", "不知道"])))
    assert out.text in ("yes", "no", "不知道")
    assert out.finish_reason is FinishReason.STOP
    out = demo_runtime.chat(ASK, free(constraint=Regex(r"^\d{3}-[a-f]{2}$")))
    assert re.fullmatch(r"\d{3}-[a-f]{2}", out.text)
    grammar = LarkGrammar('start: "a" PART+\nPART: /[0-9]{2};/')
    out = demo_runtime.chat(ASK, free(max_tokens=20, constraint=grammar))
    assert re.fullmatch(r"a([0-9]{2};)+", out.text)
    out = demo_runtime.chat(ASK, free(max_tokens=40, constraint=AnyJson()))
    assert isinstance(json.loads(out.text), dict)


def test_all_forms_give_the_same_constrained_answer(demo_runtime: Aquila2Runtime) -> None:
    params = free(constraint=JsonSchema(SCHEMA))
    whole = demo_runtime.chat(ASK, params)
    deltas = list(demo_runtime.stream_chat(ASK, params))
    assert "".join(delta.text for delta in deltas) == whole.text
    assert deltas[-1].finish_reason is whole.finish_reason

    async def awaited() -> tuple[str, str]:
        out = await demo_runtime.achat(ASK, params)
        pieces = [delta.text async for delta in demo_runtime.astream_chat(ASK, params)]
        return out.text, "".join(pieces)

    assert asyncio.run(awaited()) == (whole.text, whole.text)


def test_a_constrained_request_changes_no_neighbour(demo_runtime: Aquila2Runtime) -> None:
    plain = free(max_tokens=24)
    bound = free(constraint=JsonSchema(SCHEMA))
    alone = [demo_runtime.chat(ASK, params).text for params in (plain, bound)]
    mixed = demo_runtime.chat_batch([ASK] * 5, [plain, bound, plain, bound, plain])
    assert [out.text for out in mixed] == [alone[0], alone[1], alone[0], alone[1], alone[0]]


def test_every_of_n_answers_follows_the_constraint_on_its_own(
    demo_runtime: Aquila2Runtime,
) -> None:
    params = free(n=3, logprobs=2, min_tokens=3, presence_penalty=0.5, top_p=0.9)
    out = demo_runtime.chat(ASK, params.replace(constraint=JsonSchema(SCHEMA)))
    for choice in out.choices:
        check(json.loads(choice.text))
        assert len(choice.logprobs) == len(choice.token_ids)
    assert len({choice.text for choice in out.choices}) > 1


def test_stop_strings_do_not_cut_a_value_in_two(demo_runtime: Aquila2Runtime) -> None:
    out = demo_runtime.chat(ASK, free(stop=['"', "age"], constraint=JsonSchema(SCHEMA)))
    check(json.loads(out.text))
    assert any("Stop strings" in notice for notice in out.notices)


@pytest.mark.parametrize("choice", ["any", "get_weather", "now"])
@pytest.mark.parametrize("max_tokens", [48, 80])
def test_a_forced_choice_calls_a_tool_with_valid_arguments(
    demo_runtime: Aquila2Runtime, choice: str, max_tokens: int
) -> None:
    for seed in range(3):
        out = demo_runtime.chat(
            ASK, free(max_tokens=max_tokens, seed=seed), tools=[WEATHER, NOW], tool_choice=choice
        )
        assert out.tool_calls and not out.invalid_tool_calls and out.content == ""
        assert "\n".join(call.text for call in out.tool_calls) == out.text
        for call in out.tool_calls:
            assert choice in ("any", call.name)
            if call.name == "now":
                assert call.arguments == {}
            else:
                assert isinstance(call.arguments["city"], str)
        if choice != "any":
            assert len(out.tool_calls) == 1


def test_at_most_one_call_where_parallel_calls_are_off(demo_runtime: Aquila2Runtime) -> None:
    for seed in range(4):
        out = demo_runtime.chat(
            ASK,
            free(max_tokens=120, seed=seed),
            tools=[WEATHER, NOW],
            tool_choice="any",
            parallel_tool_calls=False,
        )
        assert len(out.tool_calls) == 1


def test_tools_that_may_not_be_called_are_not_shown(demo_runtime: Aquila2Runtime) -> None:
    out = demo_runtime.chat(ASK, free(), tools=[WEATHER], tool_choice="none")
    assert list(out.prompt_token_ids) == demo_runtime.render(ASK)
    assert out.tool_calls == () and "<tool_call>" not in out.text


def test_tools_are_counted_and_rendered_as_the_model_sees_them(
    demo_runtime: Aquila2Runtime,
) -> None:
    out = demo_runtime.chat(ASK, free(max_tokens=50), tools=[WEATHER])
    ids = demo_runtime.render(ASK, tools=[WEATHER])
    assert list(out.prompt_token_ids) == ids
    assert demo_runtime.count_tokens(ASK, tools=[WEATHER]) == len(ids)
    assert demo_runtime.count_tokens(ASK) < len(ids)
    # A text shows none; left out of the count, they would be missed in the prompt.
    with pytest.raises(InvalidPromptError, match="conversations") as caught:
        demo_runtime.count_tokens("What is the weather?", tools=[WEATHER])
    assert caught.value.parameter == "tools"
    assert demo_runtime.count_tokens("Hello", tools=[]) == demo_runtime.count_tokens("Hello")


def test_streamed_calls_come_in_pieces_beside_content(demo_runtime: Aquila2Runtime) -> None:
    request: dict[str, Any] = {"tools": [WEATHER, NOW], "tool_choice": "get_weather"}
    whole = demo_runtime.chat(ASK, free(), **request)
    deltas = list(demo_runtime.stream_chat(ASK, free(), **request))
    assert "".join(delta.text for delta in deltas) == whole.text
    assert "".join(delta.content for delta in deltas) == whole.content == ""
    pieces = [piece for delta in deltas for piece in delta.tool_calls]
    assert [piece.name for piece in pieces if piece.name is not None] == ["get_weather"]
    written = "".join(piece.arguments for piece in pieces)
    assert json.loads(written) == dict(whole.tool_calls[0].arguments)
    assert len(pieces) > 3


def test_a_history_of_calls_is_rendered_as_it_was_written(demo_runtime: Aquila2Runtime) -> None:
    call = ToolCall("now", {})
    history = [
        Message("user", "What time is it?"),
        Message("assistant", "Let me see.", tool_calls=(call,)),
        Message("tool", "12:00", name="now", tool_call_id="1"),
    ]
    text = demo_runtime.tokenizer.decode(demo_runtime.render(history, tools=[NOW]))
    assert f"Let me see.\n{call.text}" in text
    assert "Tool result (now):\n12:00" in text


@pytest.mark.parametrize(
    ("request_", "parameter"),
    [
        ({"tools": [NOW, NOW]}, "tools"),
        ({"tools": "now"}, "tools"),
        ({"tools": [NOW], "tool_choice": "later"}, "tool_choice"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tools": [NOW], "parallel_tool_calls": 1}, "parallel_tool_calls"),
    ],
)
def test_wrong_tools_are_refused_by_name(
    demo_runtime: Aquila2Runtime, request_: dict[str, Any], parameter: str
) -> None:
    with pytest.raises((InvalidPromptError, InvalidRequestError)) as caught:
        demo_runtime.chat(ASK, free(), **request_)
    assert caught.value.parameter == parameter


def test_text_completion_takes_constraints_and_no_tools(demo_runtime: Aquila2Runtime) -> None:
    out = demo_runtime.complete("Colour:", free(constraint=Choice(["red", "green"])))
    assert out.text in ("red", "green")
    with pytest.raises(InvalidRequestError, match="tools"):
        demo_runtime.complete("Colour:", tools=[NOW])
