"""What a constraint may be: bounds, keywords, names in errors, and what is left out."""

from __future__ import annotations

import builtins
import gc
import json
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime import (
    AnyJson,
    Choice,
    InvalidConstraintError,
    JsonSchema,
    LarkGrammar,
    MissingDependencyError,
    Regex,
    SamplingParams,
    Tool,
    json_instruction,
)
from aquila2_runtime.errors import InvalidPromptError, InvalidSamplingParamsError
from aquila2_runtime.grammar.compiler import Compiler, compiler_for
from aquila2_runtime.signatures import signature
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from aquila2_runtime.tools import tools_text


@pytest.fixture(scope="module")
def tokenizer(demo_path: Path) -> Aquila2Tokenizer:
    return Aquila2Tokenizer.load(demo_path, vocab_size=4096)


def accepts(tokenizer: Aquila2Tokenizer, constraint: Any, text: str) -> bool:
    compiled = compiler_for(tokenizer).compile(constraint)
    matcher = compiled.matcher.deep_copy()
    tokens = compiled.vocabulary.cut(text.encode())
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


def test_a_choice_may_hold_any_character(tokenizer: Aquila2Tokenizer) -> None:
    for option in ("a\x7fb", "\x00", '"\\', "\u2028", "\ufeff王"):
        assert accepts(tokenizer, Choice([option, "else"]), option)


def test_what_was_compiled_goes_with_its_tokenizer(demo_path: Path) -> None:
    own = Aquila2Tokenizer.load(demo_path, vocab_size=4096)
    assert accepts(own, JsonSchema({"type": "object"}), "{}")
    gone = weakref.ref(own)
    del own
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("schema", "key"),
    [
        ({"type": "array", "items": {}, "uniqueItems": True}, "uniqueItems"),
        ({"type": "string", "not": {"const": "x"}}, "not"),
        ({"type": "object", "properties": {"a": {"if": {}, "then": {}}}}, "if"),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, "dependentRequired"),
        ({"type": "string", "format": "iri"}, "format"),
        ({"type": "integer", "multipleOf": 999_983}, "multipleOf"),
        ({"type": "string", "pattern": r"^(?!\.)(?!.*\.\.)[a-z.]+@[a-z.]+$"}, "pattern"),
        ({"type": "string", "pattern": r"(?<=a)b|c(?<!d)"}, "pattern"),
        ({"type": "string", "pattern": r"^(\w)\1$"}, "pattern"),
        ({"type": "string", "pattern": r"[]a]\bfoo"}, "pattern"),
    ],
)
def test_a_keyword_that_cannot_be_enforced_is_named_or_left_out_and_told(
    tokenizer: Aquila2Tokenizer, schema: dict[str, Any], key: str
) -> None:
    with pytest.raises(InvalidConstraintError) as caught:
        JsonSchema(schema)
    assert caught.value.parameter == key
    loose = compiler_for(tokenizer).compile(JsonSchema(schema, strict=False))
    assert any(key in notice for notice in loose.notices)


@pytest.mark.parametrize(
    "pattern", [r"^[(?=a)]b$", r"^\(\?=$", r"^\\b[^](?!x]$", r"^(?:a|b)(?<c>d)$"]
)
def test_a_pattern_that_only_looks_like_look_around_is_enforced(pattern: str) -> None:
    assert JsonSchema({"type": "string", "pattern": pattern}).dropped == ()


@pytest.mark.parametrize("key", ["minProperties", "prefixItems", "patternProperties", "multipleOf"])
def test_keywords_that_pass_are_enforced(tokenizer: Aquila2Tokenizer, key: str) -> None:
    schema, good, bad = {
        "minProperties": ({"type": "object", "minProperties": 1}, '{"a": 1}', "{}"),
        "prefixItems": ({"type": "array", "prefixItems": [{"type": "null"}]}, "[null]", "[1]"),
        "patternProperties": (
            {"type": "object", "patternProperties": {"^a": {"type": "null"}},
             "additionalProperties": False}, '{"ab": null}', '{"b": null}',
        ),
        "multipleOf": ({"type": "integer", "multipleOf": 7}, "14", "15"),
    }[key]  # fmt: skip
    assert accepts(tokenizer, JsonSchema(schema), good)
    assert not accepts(tokenizer, JsonSchema(schema), bad)


def test_overlapping_branches_of_one_of_need_strict_off(tokenizer: Aquila2Tokenizer) -> None:
    schema = {"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}
    with pytest.raises(InvalidConstraintError) as caught:
        compiler_for(tokenizer).compile(JsonSchema(schema))
    assert caught.value.parameter == "oneOf"
    assert any(
        "oneOf" in notice
        for notice in compiler_for(tokenizer).compile(JsonSchema(schema, strict=False)).notices
    )


def test_json_is_written_as_json_dumps_writes_it(tokenizer: Aquila2Tokenizer) -> None:
    schema = JsonSchema({"properties": {"a": {"type": "integer"}, "b": {"items": {}}}})
    assert accepts(tokenizer, schema, json.dumps({"a": 1, "b": [1, "x"]}))
    assert not accepts(tokenizer, schema, '{"a":1}')
    assert not accepts(tokenizer, schema, '{ "a": 1}')
    assert not accepts(tokenizer, schema, '{"a": 1, "more": 2}')
    assert not accepts(tokenizer, schema, '"text"')  # with properties and no type: an object
    assert accepts(tokenizer, AnyJson("any"), "[1, {}]")
    assert not accepts(tokenizer, AnyJson(), "[1]")


def test_combined_objects_are_not_closed_against_each_other(tokenizer: Aquila2Tokenizer) -> None:
    base = {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}
    more = {"properties": {"b": {"type": "null"}}, "required": ["b"]}
    schema = JsonSchema({"allOf": [{"$ref": "#/$defs/base"}, more], "$defs": {"base": base}})
    assert accepts(tokenizer, schema, '{"a": null, "b": null}')
    single = JsonSchema({"allOf": [{"$ref": "#/$defs/x"}], "title": "X",
                         "$defs": {"x": {"properties": {"a": {"type": "null"}}}}})  # fmt: skip
    assert accepts(tokenizer, single, '{"a": null}')


@pytest.mark.parametrize(
    ("pattern", "fault"), [("(", "unclosed group"), ("[z-a]", "range"), ("a{2,1}", "repetition")]
)
def test_an_expression_that_cannot_be_read_is_told_with_its_fault(
    tokenizer: Aquila2Tokenizer, pattern: str, fault: str
) -> None:
    with pytest.raises(InvalidConstraintError, match=fault) as caught:
        compiler_for(tokenizer).compile(Regex(pattern))
    assert repr(pattern)[1:-1] in caught.value.message


def test_a_schema_cannot_be_changed_behind_its_back(tokenizer: Aquila2Tokenizer) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "null"}}}
    constraint, tool = JsonSchema(schema), Tool("t", "", schema)
    schema["properties"]["b"] = {}
    assert "b" not in json.loads(constraint.text)["properties"]
    assert "b" not in tool.schema["properties"]
    assert JsonSchema({"type": "null"}) == JsonSchema({"type": "null"})
    assert hash(SamplingParams(constraint=constraint))
    assert hash(tool) == hash(Tool("t"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Regex(""),
        lambda: Regex("a" * 2_001),
        lambda: Choice([]),
        lambda: Choice(["a", ""]),
        lambda: Choice("ab"),
        lambda: LarkGrammar(" " * 64_001),
        lambda: AnyJson("number"),
        lambda: JsonSchema([]),
        lambda: JsonSchema({}, strict="yes"),
    ],
)
def test_constraints_of_a_wrong_kind_are_refused_at_once(make: Any) -> None:
    with pytest.raises(InvalidConstraintError):
        make()


def test_sampling_params_take_constraints_only() -> None:
    with pytest.raises(InvalidSamplingParamsError, match="constraint"):
        SamplingParams(constraint={"type": "object"})  # type: ignore[arg-type]
    with pytest.raises(InvalidSamplingParamsError, match="ignore_eos"):
        SamplingParams(constraint=AnyJson(), ignore_eos=True)


def test_without_llguidance_the_extra_is_named(
    tokenizer: Aquila2Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "llguidance":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "llguidance", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"aquila2\[grammar\]"):
        Compiler(tokenizer).compile(AnyJson())


def test_compiled_grammars_are_kept_within_bounds(tokenizer: Aquila2Tokenizer) -> None:
    """G3."""
    compiler = Compiler(tokenizer)
    first = compiler.compile(Choice(["0"]))
    assert compiler.compile(Choice(["0"])).matcher is first.matcher
    for number in range(1, 70):
        compiler.compile(Choice([str(number)]))
    assert len(compiler._kept) <= 64
    assert compiler._kept_bytes == sum(map(len, compiler._kept))
    assert compiler.compile(Choice(["0"])).matcher is not first.matcher


def test_tools_are_shown_in_their_one_form() -> None:
    schema = {"type": "object", "properties": {
        "city": {"type": "string", "description": "Which city."},
        "unit": {"enum": ["C", "F"]}, "days": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    }, "required": ["city"]}  # fmt: skip
    assert tools_text([Tool("weather", "Get the\nweather.", schema), Tool("now")]) == (
        "You can call these tools:\n"
        '- weather(city: string, unit?: "C"|"F", days?: integer|null): Get the weather.\n'
        "  city: Which city.\n"
        "- now()\n"
        "To call a tool, write only a line of this form, with the tool's name and its arguments:\n"
        '<tool_call>{"name": "...", "arguments": {...}}</tool_call>'
    )
    assert json_instruction(schema) == (
        'Answer in JSON: {city: string, unit?: "C"|"F", days?: integer|null}'
    )


def test_a_signature_of_anything_ends() -> None:
    wide: dict[str, Any] = {"anyOf": [{"$ref": "#/anyOf/0"}] * 50}
    wide["anyOf"][0] = {"type": "array", "items": wide}
    assert len(signature(wide)) < 1_000_000
    for odd in ({"enum": [object()]}, {"properties": {"a": 3}, "required": 5}, {"anyOf": "x"},
                {"type": ["string", 5]}, {"$ref": "#/a/b"}, {"properties": []}):  # fmt: skip
        assert isinstance(signature(odd), str)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tool("no spaces"),
        lambda: Tool("x", 5),
        lambda: Tool("x", "d" * 16_001),
        lambda: Tool("x", "", {"type": "array"}),
        lambda: Tool("x", "", {"properties": {f"p{i}": {} for i in range(501)}}),
    ],
)
def test_malformed_tools_are_refused(make: Any) -> None:
    with pytest.raises((InvalidPromptError, InvalidConstraintError)):
        make()
