"""Text that turns into calls: the opening, its masks and the token limit, without a model."""

from __future__ import annotations

import datetime
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime import (
    AnyJson,
    FinishReason,
    JsonSchema,
    SamplingParams,
    Tool,
    ToolCall,
    ToolCallParser,
)
from aquila2_runtime.engine.base import Chunk, EngineRequest, Finished
from aquila2_runtime.errors import GenerationError, InvalidPromptError
from aquila2_runtime.generation import Answer
from aquila2_runtime.grammar.calls import call_grammar
from aquila2_runtime.grammar.compiler import compiler_for
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from aquila2_runtime.tool_parser import parse_calls
from tests.grammar.test_schemas import allowed

TOOLS = [
    Tool("find", "Find it.", {"type": "object", "properties": {"q": {"type": "string"}},
                              "required": ["q"]}),
    Tool("now"),
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(demo_path: Path) -> Aquila2Tokenizer:
    return Aquila2Tokenizer.load(demo_path, vocab_size=4096)


def write(state, ids: list[int]) -> None:  # type: ignore[no-untyped-def]
    for token_id in ids:
        assert state.settle(token_id) == token_id
        state.advance(token_id)


def test_free_text_is_not_masked_until_a_call_begins(tokenizer: Aquila2Tokenizer) -> None:
    state = call_grammar(compiler_for(tokenizer), TOOLS, "auto", parallel=True).state(500)
    for token_id in tokenizer.encode_ordinary("I could say <tool_ca or <b> {}\n"):
        assert state.mask() is None
        write(state, [token_id])
    write(state, tokenizer.encode_ordinary("<tool_call>"))
    mask = state.mask()
    assert mask is not None
    spelt = [tokenizer.token_bytes(at) for at in allowed(mask, tokenizer.n_vocab)]
    assert spelt and all(b'{"name": "'.startswith(token) for token in spelt)
    write(state, tokenizer.encode_ordinary('{"name": "now", "arguments": {}}</tool_call>'))
    assert not state.ended  # another call may follow, or nothing
    mask = state.mask()
    assert mask is not None
    following = allowed(mask, tokenizer.n_vocab)
    assert tokenizer.eos_token_id in following
    assert all(
        at == tokenizer.eos_token_id or tokenizer.token_bytes(at).startswith(b"\n")
        for at in following
    )


def _like(tool: Tool, **changes: object) -> Tool:
    return Tool(tool.name, tool.description, {**tool.schema, **changes})


def test_the_same_tools_are_compiled_once_and_others_apart(tokenizer: Aquila2Tokenizer) -> None:
    """An agent offers its tools anew in every turn."""
    compiler = compiler_for(tokenizer)
    first = call_grammar(compiler, TOOLS, "auto", parallel=True)
    again = [Tool(tool.name, "Said otherwise.", tool.parameters) for tool in TOOLS]
    assert call_grammar(compiler, again, "auto", parallel=True) is first
    assert call_grammar(compiler, again, "auto", parallel=False) is not first
    assert call_grammar(compiler, again, "any", parallel=True) is not first
    assert call_grammar(compiler, again[::-1], "auto", parallel=True) is not first
    other = [_like(TOOLS[0], required=[]), TOOLS[1]]
    assert call_grammar(compiler, other, "auto", parallel=True) is not first
    for form in (AnyJson(), JsonSchema({"type": "object", "properties": {}})):
        held = call_grammar(compiler, TOOLS, "auto", parallel=True, otherwise=form)
        assert held is not first
        assert not held.text_first


def test_what_is_left_out_is_told_of_each_of_two_schemas_that_leave_the_same(
    tokenizer: Aquila2Tokenizer,
) -> None:
    compiler = compiler_for(tokenizer)

    def notices(tool: Tool) -> tuple[str, ...]:
        return call_grammar(compiler, [tool], "auto", parallel=True).notices

    assert notices(TOOLS[0]) == ()
    assert "uniqueItems" in str(notices(_like(TOOLS[0], uniqueItems=True)))
    assert "minContains" in str(notices(_like(TOOLS[0], minContains=1)))
    assert notices(TOOLS[0]) == ()


def test_a_tool_s_schema_that_is_changed_afterwards_is_another() -> None:
    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    before = Tool("find", "", schema)
    schema["properties"]["q"] = {"type": "integer"}  # type: ignore[index]
    after = Tool("find", "", schema)
    assert json.loads(before.text)["properties"] == {"q": {"type": "string"}}
    assert json.loads(after.text)["properties"] == {"q": {"type": "integer"}}
    assert before.schema["properties"] == {"q": {"type": "string"}}


@pytest.mark.parametrize("seed", range(12))
def test_a_call_that_begins_anywhere_is_complete_or_does_not_begin(
    tokenizer: Aquila2Tokenizer, seed: int
) -> None:
    rng = random.Random(seed)
    max_tokens = rng.randint(14, 90)
    grammar = call_grammar(compiler_for(tokenizer), TOOLS, "auto", parallel=seed % 2 == 0)
    state = grammar.state(max_tokens)
    script = tokenizer.encode_ordinary("Well.\n<tool_call>")
    ids: list[int] = []
    while len(ids) < max_tokens and not state.ended:
        mask = state.mask()
        if len(ids) < len(script):
            chosen = script[len(ids)]
        elif mask is None:
            break
        else:
            chosen = rng.choice(allowed(mask, tokenizer.n_vocab))
        chosen = state.settle(chosen)
        state.advance(chosen)
        ids.append(chosen)
        if chosen == tokenizer.eos_token_id:
            break
    content, calls, invalid = parse_calls(tokenizer.decode(ids), ["find", "now"])
    assert invalid == ()
    if not calls:
        assert state.cut and content.startswith("Well.")
    for call in calls:
        assert call.name == "now" or isinstance(call.arguments["q"], str)
    assert len(calls) <= 1 or seed % 2 == 0


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("stop", ["}", "find", '>{"', "<tool"])
def test_stop_strings_end_text_and_never_a_call(
    tokenizer: Aquila2Tokenizer, stop: str, at_once: bool
) -> None:
    """Read id by id or all at once: the calls' parser may see the text later than it is written."""
    call = ToolCall("find", {"q": "a } b"})
    ids = tokenizer.encode_ordinary(f"Let me look.\n{call.text}")
    params = SamplingParams(stop=[stop])
    request = EngineRequest(
        prompt_token_ids=(1,),
        params=params,
        max_tokens=200,
        seed=0,
        stop_ids=frozenset(),
        eos_token_id=tokenizer.eos_token_id,
    )
    answer = Answer(tokenizer, request, stop=params.stop_strings, calls=ToolCallParser())
    chunks = [ids] if at_once else [[token_id] for token_id in ids]
    for some in chunks:
        if not answer.done:
            answer.feed(Chunk(token_ids=some))
    if not answer.done:
        answer.feed(Chunk(finished=Finished(FinishReason.STOP)))
    output = answer.output()
    if stop == "<tool":
        assert (output.text, output.tool_calls) == ("Let me look.\n", ())
    else:
        assert (output.content, output.tool_calls) == ("Let me look.", (call,))


def test_no_call_begins_where_none_is_allowed(tokenizer: Aquila2Tokenizer) -> None:
    state = call_grammar(compiler_for(tokenizer), TOOLS, "none", parallel=True).state(100)
    *opening, last = tokenizer.encode_ordinary("<tool_call>")
    write(state, opening)
    mask = state.mask()
    assert mask is not None and last not in allowed(mask, tokenizer.n_vocab)
    assert len(allowed(mask, tokenizer.n_vocab)) > 4_000
    with pytest.raises(GenerationError):
        state.settle(last)


def test_arguments_are_written_as_a_call_is_rendered(tokenizer: Aquila2Tokenizer) -> None:
    call = ToolCall("find", {"q": '"x"\n，名\\'})
    state = call_grammar(compiler_for(tokenizer), TOOLS, "find", parallel=True).state(500)
    write(state, tokenizer.encode_ordinary(call.text))
    assert state.ended and not state.cut
    assert json.loads(call.text[11:-12])["arguments"] == dict(call.arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("f", None),
        ("f", [1]),
        ("f", {"d": datetime.date(2020, 1, 1)}),
        ("f", {"x": float("nan")}),
        ("f", {("a", "b"): 1}),
        (7, {}),
    ],
)
def test_a_call_that_json_cannot_say_is_refused_when_it_is_made(name: Any, arguments: Any) -> None:
    with pytest.raises(InvalidPromptError):
        ToolCall(name, arguments)


@pytest.mark.parametrize(("digits", "read"), [("1e999", 1), ("-2E972", -1)])
def test_a_number_beyond_all_of_python_s_is_the_largest_of_them(digits: str, read: int) -> None:
    """A grammar allows it, and a call that was held to one is always whole."""
    text = f'<tool_call>{{"name": "f", "arguments": {{"x": {digits}}}}}</tool_call>'
    content, calls, invalid = parse_calls(text)
    assert (content, invalid) == ("", ())
    assert calls[0].arguments == {"x": read * sys.float_info.max}
    assert parse_calls(calls[0].text)[1] == calls
