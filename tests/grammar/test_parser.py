"""Text into content and calls, in pieces of any size, and what looks like calls and is none."""

from __future__ import annotations

import json
import random
import time

import pytest

from aquila2_runtime import ToolCall, ToolCallParser
from aquila2_runtime.tool_parser import parse_calls

ARGUMENTS = {"x": '</tool_call>" }<tool_call>', "y": [1, {"z": "\\"}], "名": "值"}
CALLS = (ToolCall("a", ARGUMENTS), ToolCall("b-2.c", {}))
TEXT = "Sure <b>\n, <tool_ca\n" + "\n".join(call.text for call in CALLS)


def test_calls_are_read_as_they_are_written() -> None:
    content, calls, invalid = parse_calls(TEXT)
    assert (content, calls, invalid) == ("Sure <b>\n, <tool_ca", CALLS, ())


@pytest.mark.parametrize("seed", range(60))
def test_pieces_of_any_size_add_up_and_never_show_an_opening(seed: int) -> None:
    rng = random.Random(seed)
    parser = ToolCallParser(["a", "b-2.c"])
    content, arguments, names = "", {0: "", 1: ""}, []
    at = 0
    parts = []
    while at < len(TEXT):
        size = rng.randint(1, 1 + seed % 12)
        parts.append(parser.feed(TEXT[at : at + size]))
        at += size
    parts.append(parser.finish())
    for part in parts:
        assert "<tool_call" not in part.content
        content += part.content
        for piece in part.pieces:
            arguments[piece.index] += piece.arguments
            names += [piece.name] if piece.name is not None else []
    assert content == parser.content == "Sure <b>\n, <tool_ca"
    assert names == ["a", "b-2.c"]
    assert [json.loads(text) for text in arguments.values()] == [ARGUMENTS, {}]
    assert tuple(parser.calls) == CALLS


@pytest.mark.parametrize(
    "text", ["", "x", "a\n", "\n", "<", "a\n<tool_call", "<tool_cal</tool_call>"]
)
def test_text_without_a_call_is_content_to_the_last_character(text: str) -> None:
    assert parse_calls(text) == (text, (), ())


@pytest.mark.parametrize(
    ("body", "name", "error"),
    [
        ("[1]", None, "names no tool"),
        ("nonsense", None, "no JSON"),
        ('{"name": "a", "arguments": [1]}', "a", "no object"),
        ('{"name": "a", "arguments": {"x": NaN}}', None, "NaN is not JSON"),
        ('{"name": "c", "arguments": {}}', "c", "There is no tool 'c'"),
        ('{"name": 5}', None, "names no tool"),
        ('{"name": "a", "arguments": ' + "[" * 5_000 + "]" * 5_000 + "}", None, "too deeply"),
    ],
)
def test_what_is_no_call_is_told_and_raises_nothing(
    body: str, name: str | None, error: str
) -> None:
    """G5, G7."""
    _, calls, (invalid,) = parse_calls(f"<tool_call>{body}</tool_call>", ["a", "b"])
    assert calls == ()
    assert invalid.name == name
    assert error in invalid.error


def test_a_call_that_was_not_finished_is_invalid_and_keeps_what_there_is() -> None:
    _, calls, (invalid,) = parse_calls('Hm.\n<tool_call>{"name": "a", "arguments": {"x": "y')
    assert calls == ()
    assert (invalid.name, invalid.arguments) == ("a", '{"x": "y')


def test_a_call_in_another_order_is_read_too() -> None:
    parser = ToolCallParser()
    part = parser.feed('<tool_call>{"arguments": {"q": 1}, "name": "a"}</tool_call>')
    assert parser.calls == [ToolCall("a", {"q": 1})]
    (piece,) = part.pieces
    assert (piece.name, json.loads(piece.arguments)) == ("a", {"q": 1})


@pytest.mark.parametrize(
    "text",
    [
        "{" * 10**6,
        "<tool>" * 170_000,
        "<tool_call>" * 90_000,
        "<tool_call>" + "{" * 10**6,
        '<tool_call>{"name": "a", "arguments": {"x": "' + "a" * 10**6 + '"}}</tool_call>',
        '<tool_call>{"name": "' + "a" * 10**6,
        "<tool_call>" + "</tool_cal" * 100_000,
    ],
    ids=lambda text: text[:30],
)
def test_a_megabyte_of_anything_is_read_in_linear_time(text: str) -> None:
    """G5. In processor time; quadratic work would take minutes."""
    began = time.thread_time()
    parse_calls(text)
    assert time.thread_time() - began < 1.0
