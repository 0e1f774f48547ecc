"""Combined schemas: an object is closed only where that makes no other's members impossible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime import JsonSchema
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from tests.grammar.test_constraints import accepts

NULL = {"type": "null"}
A = {"type": "object", "properties": {"a": NULL}, "required": ["a"]}
B = {"type": "object", "properties": {"b": NULL}, "required": ["b"]}
TO_B = {"$ref": "#/$defs/B"}
DEFS = {"$defs": {"A": A, "B": B, "~/": TO_B, "either": {"anyOf": [TO_B, NULL]}}}

BOTH = {
    "one branch beside properties": {**A, "allOf": [TO_B]},
    "any of references beside properties": {**A, "anyOf": [TO_B]},
    "any of references beside a reference": {"$ref": "#/$defs/A", "anyOf": [TO_B]},
    "one of references beside properties": {**A, "oneOf": [TO_B]},
    "references by way of a reference": {**A, "allOf": [{"$ref": "#/$defs/~0~1"}]},
    "references among a branch's branches": {"allOf": [A, {"anyOf": [TO_B, {"required": ["c"]}]}]},
    "references among a reference's branches": {"allOf": [A, {"$ref": "#/$defs/either"}]},
    "any of beside all of": {"allOf": [{"$ref": "#/$defs/A"}], "anyOf": [B]},
    "a reference into a list": {**A, "allOf": [{"$ref": "#/$defs/listed/anyOf/0"}],
                                "$defs": {**DEFS["$defs"], "listed": {"anyOf": [TO_B]}}},
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(demo_path: Path) -> Aquila2Tokenizer:
    return Aquila2Tokenizer.load(demo_path, vocab_size=4096)


@pytest.mark.parametrize("schema", BOTH.values(), ids=BOTH)
def test_members_of_both_are_possible(schema: dict[str, Any], tokenizer: Aquila2Tokenizer) -> None:
    """The one referred to was closed, and the other's members became impossible."""
    combined = JsonSchema({**DEFS, **schema}, strict=False)
    assert accepts(tokenizer, combined, '{"a": null, "b": null}')
    assert not accepts(tokenizer, combined, '{"b": null}')


def test_what_is_combined_with_nothing_is_closed(tokenizer: Aquila2Tokenizer) -> None:
    alone = [{"allOf": [TO_B], "title": "B"}, {"anyOf": [TO_B, NULL]}, {**TO_B, "title": "B"}]
    for schema in alone:
        assert accepts(tokenizer, JsonSchema({**DEFS, **schema}), '{"b": null}')
        assert not accepts(tokenizer, JsonSchema({**DEFS, **schema}), '{"b": null, "c": null}')


def test_references_in_circles_or_to_nothing_end() -> None:
    for target in ("#", "#/$defs/none", "#/allOf/7", "#/allOf/0/x", "#/title/x"):
        JsonSchema({"title": "x", "properties": {}, "allOf": [{"$ref": target}, {"allOf": [{}]}]})


def test_a_member_may_be_required_that_has_no_schema(tokenizer: Aquila2Tokenizer) -> None:
    """The object was closed against it, and nothing could be accepted."""
    schema = JsonSchema({"type": "object", "properties": {"a": NULL}, "required": ["a", "b"]})
    assert accepts(tokenizer, schema, '{"a": null, "b": 1}')
    assert not accepts(tokenizer, schema, '{"a": null}')
    fitting = {"properties": {"a": NULL}, "patternProperties": {"^b": NULL}, "required": ["b1"]}
    assert accepts(tokenizer, JsonSchema(fitting), '{"b1": null}')
    assert not accepts(tokenizer, JsonSchema(fitting), '{"b1": null, "c": null}')
