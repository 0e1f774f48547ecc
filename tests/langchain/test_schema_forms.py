"""Schemas in the forms callers have them: wrapped, of strict classes, or none at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aquila2_runtime import errors as ours
from langchain_aquila2 import ChatAquila2
from tests.langchain.support import MakeChat

ASK = "Lena is 30 years old and lives in Paris."
METHODS = ("json_schema", "function_calling", "json_mode")


@pytest.fixture
def chat(make_chat: MakeChat) -> ChatAquila2:
    return make_chat(max_tokens=64)


@pytest.mark.parametrize("method", METHODS)
def test_open_ai_s_wrappers_around_a_schema_are_not_the_schema(
    chat: ChatAquila2, method: Any
) -> None:
    """They were taken for schemas that say nothing, and any JSON was an answer."""
    inner = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}
    named = {"name": "f", "strict": True, "schema": inner}
    for schema in (
        named,
        {"type": "json_schema", "json_schema": named},
        {"type": "json_schema", **named},
    ):
        model = chat.with_structured_output(schema, method=method, include_raw=True)
        answer = model.invoke(ASK)
        assert answer["parsed"] == {"a": 1}
    unique = {"type": "array", "items": {"enum": [1]}, "uniqueItems": True, "maxItems": 1}
    loose = {"type": "object", "properties": {"a": unique}, "required": ["a"]}
    with pytest.raises(ours.InvalidConstraintError, match="uniqueItems"):
        chat.with_structured_output({**named, "schema": loose}, method=method)
    given: Any = {**named, "schema": loose, "strict": False}
    assert chat.with_structured_output(given, method=method).invoke(ASK) is not None
    with pytest.raises(ours.InvalidConstraintError, match="uniqueItems"):
        chat.with_structured_output(given, method=method, strict=True)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"title": "f"},
        {"name": "f", "description": "d"},
        {"name": "f", "schema": {}},
        {"type": "json_schema", "json_schema": {"name": "f"}},
        {"type": "json_object"},
        {"type": "function", "function": {"name": "f"}},
        {"name": "f", "parameters": {"title": "f"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", METHODS)
def test_a_dict_that_says_nothing_about_an_answer_is_refused(method: Any, schema: Any) -> None:
    given = json.dumps(schema)
    with pytest.raises(ours.InvalidConstraintError) as caught:
        ChatAquila2(model="nowhere").with_structured_output(schema, method=method)
    assert caught.value.parameter == "schema"
    assert json.dumps(schema) == given
