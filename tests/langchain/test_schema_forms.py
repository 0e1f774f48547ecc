"""Schemas in the forms callers have them: wrapped, of strict classes, or none at all."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from typing import Any

import pydantic
import pydantic.v1
import pytest
from langchain_core.exceptions import OutputParserException

from aquila2_runtime import errors as ours
from langchain_aquila2 import ChatAquila2
from tests.langchain.support import MakeChat, let_time_pass

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


class Strict(pydantic.BaseModel):
    """A booking that takes no string for a date, where it is Python's."""

    model_config = pydantic.ConfigDict(strict=True)

    day: datetime.date
    number: uuid.UUID
    price: decimal.Decimal
    guests: tuple[int, ...] = pydantic.Field(max_length=2)


@pytest.mark.parametrize("method", METHODS)
async def test_a_strict_class_reads_what_its_schema_asks_for(
    make_chat: MakeChat, method: Any
) -> None:
    """It refused every date of every answer."""
    model = make_chat(max_tokens=160).with_structured_output(Strict, method=method)
    told = model.invoke(ASK)
    assert isinstance(told, Strict)
    assert list(model.stream(ASK))[-1] == told
    assert await model.ainvoke(ASK) == told
    assert [part async for part in model.astream(ASK)][-1] == told


class Picky(pydantic.BaseModel):
    """Refuses what its schema allows."""

    a: int

    @pydantic.field_validator("a")
    @classmethod
    def _refuse(cls, value: int) -> int:
        msg = "never right"
        raise ValueError(msg)


@pytest.mark.parametrize("method", METHODS)
def test_what_a_class_refuses_is_an_error_or_stands_beside_the_message(
    chat: ChatAquila2, method: Any
) -> None:
    model = chat.with_structured_output(Picky, method=method)
    for ask in (model.invoke, lambda text: list(model.stream(text))):
        with pytest.raises((OutputParserException, pydantic.ValidationError), match="never right"):
            ask(ASK)
    model = chat.with_structured_output(Picky, method=method, include_raw=True)
    for answer in (model.invoke(ASK), *model.stream(ASK)):
        assert answer["parsed"] is None
        assert "never right" in str(answer["parsing_error"])


class Note(pydantic.BaseModel):
    """A note, longer than any answer of these tests."""

    text: str = pydantic.Field(json_schema_extra={"minLength": 2000})


class OldNote(pydantic.v1.BaseModel):
    """The same, of pydantic's version 1."""

    text: str = pydantic.v1.Field(..., minLength=2000)


@pytest.mark.parametrize("schema", [Note, Note.model_json_schema()], ids=["class", "dict"])
@pytest.mark.parametrize("method", METHODS)
def test_an_answer_that_was_cut_short_is_no_object(
    make_chat: MakeChat, monkeypatch: pytest.MonkeyPatch, schema: Any, method: Any
) -> None:
    """LangChain closes what is open."""
    chat = make_chat(max_tokens=2500, timeout=900)
    model = chat.with_structured_output(schema, method=method, include_raw=True)
    let_time_pass(monkeypatch, steps=60)
    answer = model.invoke(ASK)
    assert answer["raw"].response_metadata["finish_reason"] == "timeout"
    assert answer["parsed"] is None
    assert (answer["parsing_error"] is None) is (method == "function_calling")


@pytest.mark.parametrize(
    "schema", [Note, OldNote, Note.model_json_schema()], ids=["class", "v1", "dict"]
)
async def test_a_stream_that_was_cut_short_ends_with_an_error(
    make_chat: MakeChat, monkeypatch: pytest.MonkeyPatch, schema: Any
) -> None:
    """Its last part was all there was, and with the message it was taken for whole."""
    chat = make_chat(max_tokens=2500, timeout=900)
    model = chat.with_structured_output(schema)
    let_time_pass(monkeypatch, steps=12)
    seen = []
    with pytest.raises(OutputParserException):
        model.invoke(ASK)
    with pytest.raises(OutputParserException):
        for part in model.stream(ASK):
            seen.append(part)
    assert seen
    with pytest.raises(OutputParserException):
        async for part in model.astream(ASK):
            seen.append(part)
    [answer] = chat.with_structured_output(schema, include_raw=True).stream(ASK)
    assert answer["raw"].response_metadata["finish_reason"] == "timeout"
    assert answer["parsed"] is None
    assert isinstance(answer["parsing_error"], OutputParserException)
