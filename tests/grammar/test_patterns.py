"""Patterns of strings: what people write in schemas compiles soon, and its answers are found."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime import JsonSchema, Regex, Tool
from aquila2_runtime.grammar.calls import call_grammar
from aquila2_runtime.grammar.compiler import Compiler, compiler_for
from aquila2_runtime.grammar.examples import example, schema_examples
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from tests.grammar.schemas import valid
from tests.grammar.test_schemas import allowed


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Aquila2Tokenizer:
    return Aquila2Tokenizer.load(shared_data / "aquila2-tokenizer", vocab_size=100_008)


@pytest.fixture(scope="module")
def compiler(real: Aquila2Tokenizer) -> Compiler:
    made = compiler_for(real)
    assert made.vocabulary.units  # prepared before any test measures time
    return made


def text(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


def record(**members: str) -> dict[str, Any]:
    properties = {name: text(pattern) for name, pattern in members.items()}
    return {"type": "object", "properties": properties, "required": list(members)}


def check(compiler: Compiler, schema: dict[str, Any]) -> None:
    began = time.thread_time()
    compiled = compiler.compile(JsonSchema(schema))
    assert time.thread_time() - began < 1.0
    assert compiled.way is not None
    assert valid(json.loads(compiled.way), schema), compiled.way


def test_patterns_of_other_scripts_are_not_too_complex(compiler: Compiler) -> None:
    """Every byte that begins or goes on a character was tried, and the tries did not suffice."""
    person = record(
        name=r"^[\u4e00-\u9fa5]{2,4}$", phone=r"^1[3-9]\d{9}$", city=r"^[\u4e00-\u9fa5]{2,10}$"
    )
    check(compiler, person)
    check(compiler, {"type": "array", "items": person, "minItems": 2})


PATTERNS = {
    "abc": "abc",
    r"\.pdf$": ".pdf",
    r"\.(jpeg|png)$": ".png",
    r"BK-\d{4}": "BK-0000",
    r"[A-Z]{2}\d{2}": "AA00",
    "[0-9]+元$": "0元",
    "省|市|区": "省",
    ".*公司$": "公司",
    "^.*(公司|集团)$": "公司",
    r"[\u4e00-\u9fa5]+": "王",
}
"""Each with the example that is made of it."""

ODD = {
    r"(?i)\AA(?P<more>b)?[^a-z\]]{2,3}\z": "A00",
    r"^(?:foo|bar){2}z*?\x41\u{42}\p{Lu}\P{L}\p{Han}[-\s]\"\\": 'foofooABA0王-"\\',
    r"[]-][a-]\S\w+@\W": "-aaa@-",
}
"""The same, of patterns that Python reads otherwise or not at all."""

NOT_UNDERSTOOD = ["(?=a)b", r"(a)\1", "(", ")", "[", "[a", r"\p{Nonsense}", "(?x)a b", "a{9999}",
                  "[a&&b]", "[[:alpha:]]", "a{", r"\x{110000}", r"\uZZZZ", r"\ud800", "a{x}", "\\",
                  "(" * 40 + ")" * 40, r"\p", "(?P<x", "(?", "(?<!a)", "a" * 3_000]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_text_that_a_pattern_wants_somewhere_in_a_string_is_found(
    pattern: str, compiler: Compiler
) -> None:
    """Half of a text looked like any other place, and was dropped as one."""
    compiled = compiler.compile(JsonSchema(text(pattern)))
    assert compiled.way is not None
    assert json.loads(compiled.way) == PATTERNS[pattern]
    check(compiler, record(first=pattern, other=r"^\w{2,20}$", last=r"\.pdf$"))
    check(compiler, {**text(pattern), "minLength": 9})


def test_examples_are_made_of_what_the_compiler_reads(compiler: Compiler) -> None:
    for pattern, found in ODD.items():
        assert example(pattern) == found
        compiled = compiler.compile(JsonSchema({"type": "string", "pattern": pattern}))
        assert json.loads(compiled.way or b"null") == found


def test_a_pattern_that_is_not_understood_has_no_example() -> None:
    assert [example(pattern) for pattern in NOT_UNDERSTOOD] == [None] * len(NOT_UNDERSTOOD)


def test_tools_and_expressions_have_examples_too(compiler: Compiler) -> None:
    tool = Tool("send", "", record(path=r"\.(pdf|docx)$", company=".*公司$"))
    calls = call_grammar(compiler, [tool], "any", parallel=False).calls
    assert calls is not None
    assert calls.way is not None
    assert '{"path": ".pdf", "company": "公司"}' in calls.way.decode()
    assert compiler.compile(Regex(".*(公司|集团)")).way == "公司".encode()


def test_no_more_of_a_schema_is_made_examples_of_than_bounds_allow() -> None:
    wide = {"anyOf": [{"pattern": f"x{number}$", "minLength": 9} for number in range(200)]}
    assert len(schema_examples(wide)) <= 66


def follow(compiler: Compiler, schema: dict[str, Any], wanted: str, max_tokens: int) -> str:
    """What becomes of an answer that would be written if it were allowed."""
    compiled = compiler.compile(JsonSchema(schema))
    state = compiled.state(max_tokens)
    data, known = b"", compiled.vocabulary
    ids = known.cut(wanted.encode())
    while not state.ended:
        mask = state.mask()
        assert mask is not None
        chosen = ids.pop(0) if ids else known.eos_token_id
        taken = state.settle(allowed(mask, 100_008)[0] if state.cut else chosen)
        state.advance(taken)
        data += known.bytes_of(taken)
        if taken == known.eos_token_id:
            break
    return data.decode()


@pytest.mark.parametrize("wanted", ['[{"code": "1abc2xyz"}]', '[{"code": "abc0xyz"}, {"a": 1}]'])
def test_an_id_behind_which_no_search_finds_a_way_is_taken_while_there_is_room(
    wanted: str, compiler: Compiler
) -> None:
    """It was taken for one that makes the answer too long: such an array was always empty."""
    hard = {"allOf": [text("abc"), text("xyz$")]}
    properties = {"a": {"type": "integer"}, "code": hard}
    schema = {"type": "array", "items": {"type": "object", "properties": properties}}
    assert follow(compiler, schema, wanted, 200) == wanted
    assert json.loads(follow(compiler, schema, wanted, 30)) == [{"a": 0}]
