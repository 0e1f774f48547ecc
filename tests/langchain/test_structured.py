"""Objects: every method, kind of schema and way of asking; answers parse whatever the weights."""

from __future__ import annotations

import datetime
import decimal
import itertools
import json
import uuid
from collections.abc import Iterator
from typing import Any, Literal, TypedDict

import jsonschema
import pydantic
import pydantic.v1
import pytest
from langchain_core.messages import HumanMessage

from aquila2_runtime import Aquila2Runtime, Message, json_instruction
from aquila2_runtime import errors as ours
from langchain_aquila2 import ChatAquila2
from tests.langchain.support import MakeChat
from tests.untrained import untrained_copy

ASK = "Lena is 30 years old and lives in Paris."
METHODS = ("json_schema", "function_calling", "json_mode")


class Person(pydantic.BaseModel):
    """A person."""

    name: str
    age: int | None = None
    mood: Literal["good", "bad"]


class OldPerson(pydantic.v1.BaseModel):
    """A person."""

    name: str
    age: int


class PersonDict(TypedDict):
    """A person."""

    name: str
    age: int


class Tree(pydantic.BaseModel):
    """A tree."""

    value: int
    children: list[Tree]


SCHEMA = {
    "title": "person",
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
KINDS: dict[str, Any] = {
    "pydantic": Person,
    "pydantic.v1": OldPerson,
    "TypedDict": PersonDict,
    "schema": SCHEMA,
    "recursive": Tree,
}
DICTS = ("TypedDict", "schema")


@pytest.fixture
def chat(make_chat: MakeChat) -> ChatAquila2:
    return make_chat(max_tokens=64)


def check(kind: str, parsed: Any) -> None:
    if kind in DICTS:
        assert list(parsed) == ["name", "age"]
        assert isinstance(parsed["name"], str)
        assert type(parsed["age"]) is int
    else:
        assert isinstance(parsed, KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_with_an_object_of_every_kind(
    chat: ChatAquila2, method: Any, kind: str
) -> None:
    check(kind, chat.with_structured_output(KINDS[kind], method=method).invoke(ASK))


@pytest.mark.parametrize("strict", [None, False, True])
@pytest.mark.parametrize("include_raw", [False, True])
@pytest.mark.parametrize("method", METHODS)
async def test_every_method_gives_one_object_in_every_way_of_asking(
    make_chat: MakeChat, method: Any, include_raw: bool, strict: bool | None
) -> None:
    """Whole, awaited, streamed, in a batch; with and without the message; however strict."""
    chat = make_chat(max_tokens=48)
    model = chat.with_structured_output(
        Person, method=method, include_raw=include_raw, strict=strict
    )
    told = model.invoke(ASK)
    found = [told, await model.ainvoke(ASK), *model.batch([ASK]), *await model.abatch([ASK])]
    streamed = list(model.stream(ASK))
    awaited = [part async for part in model.astream(ASK)]
    if not include_raw:
        check("pydantic", told)
        assert [*found, streamed[-1], awaited[-1]] == [told] * 6
        return
    wholes = [_joined(parts) for parts in (streamed, awaited)]
    for answer in (*found, *wholes):
        assert set(answer) == {"raw", "parsed", "parsing_error"}
        assert answer["parsed"] == told["parsed"]
        assert answer["parsing_error"] is None
        reason = answer["raw"].response_metadata["finish_reason"]
        assert reason in ("stop", "tool_calls", "length")
        if reason == "length":
            assert answer["raw"].usage_metadata["output_tokens"] >= 16
    check("pydantic", told["parsed"])


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """What a stream of dicts comes to: messages add up, objects replace one another."""
    whole: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            whole[name] = whole[name] + value if name == "raw" and name in whole else value
    return whole


@pytest.mark.parametrize("method", METHODS)
async def test_partial_objects_stream_and_end_with_the_whole(
    chat: ChatAquila2, method: Any
) -> None:
    model = chat.with_structured_output(SCHEMA, method=method)
    told = model.invoke(ASK)
    seen = list(model.stream(ASK))
    assert seen[-1] == told
    assert len(seen) > 2
    for before, after in itertools.pairwise(seen):
        assert list(before) == list(after)[: len(before)]
    assert await model.ainvoke(ASK) == told
    assert [item async for item in model.astream(ASK)][-1] == told


@pytest.mark.parametrize("method", METHODS)
def test_the_prompt_says_it_once_or_leaves_it_to_the_caller(
    chat: ChatAquila2, demo_runtime: Aquila2Runtime, method: Any
) -> None:
    """json_schema adds the runtime's line behind the user's last message; json_mode nothing."""
    model = chat.with_structured_output(SCHEMA, method=method, include_raw=True)
    tokens = model.invoke(ASK)["raw"].usage_metadata["input_tokens"]
    told = f"{ASK}\n\n{json_instruction(SCHEMA)}"
    assert json_instruction(SCHEMA) == "Answer in JSON: {name: string, age: integer}"
    if method == "json_schema":
        assert tokens == demo_runtime.count_tokens([Message("user", told)])
    elif method == "json_mode":
        assert tokens == demo_runtime.count_tokens([Message("user", ASK)])
    else:
        counted = chat.get_num_tokens_from_messages([HumanMessage(ASK)], tools=[SCHEMA])
        assert tokens == counted


def test_json_mode_without_a_schema_answers_with_any_object(chat: ChatAquila2) -> None:
    assert isinstance(chat.with_structured_output(method="json_mode").invoke(ASK), dict)


def test_what_cannot_be_enforced_is_refused_unless_the_caller_says_so(chat: ChatAquila2) -> None:
    unique = {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True, "maxItems": 2}
    schema = {"title": "f", "type": "object", "properties": {"a": unique}, "required": ["a"]}
    for method in METHODS:
        with pytest.raises(ours.InvalidConstraintError, match="uniqueItems"):
            chat.with_structured_output(schema, method=method)  # type: ignore[arg-type]
        loose = chat.with_structured_output(schema, method=method, strict=False, include_raw=True)  # type: ignore[arg-type]
        answer = loose.invoke(ASK)
        assert answer["parsed"]["a"] is not None
        notices = answer["raw"].response_metadata["notices"]
        assert any("uniqueItems" in notice for notice in notices)


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({"schema": Person, "method": "xml"}, "method"),
        ({"schema": None}, "schema"),
        ({"schema": 5}, "schema"),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused_before_anything_is_loaded(
    given: dict[str, Any], parameter: str
) -> None:
    with pytest.raises(ours.InvalidRequestError) as caught:
        ChatAquila2(model="nowhere").with_structured_output(**given)
    assert caught.value.parameter == parameter


def test_beside_tools_an_answer_is_a_call_or_the_object(chat: ChatAquila2) -> None:
    """Strings of the object may spell a call's opening; that makes them none."""
    tool = {"title": "now", "type": "object", "properties": {}}
    literal = {"const": "<tool_call>"}
    schema = {"title": "f", "type": "object", "properties": {"a": literal}, "required": ["a"]}
    kinds = set()
    for seed in range(8):
        bound = chat.bind_tools([tool], response_format=schema)
        answer = bound.invoke(ASK, temperature=2.0, top_p=1.0, seed=seed)
        kinds.add(bool(answer.tool_calls))
        if answer.tool_calls:
            assert answer.content == ""
        else:
            assert json.loads(str(answer.content)) == {"a": "<tool_call>"}
    assert kinds


def random_schemas(count: int) -> list[dict[str, Any]]:
    import random

    rng = random.Random(7)
    plain: list[dict[str, Any]] = [
        {"type": "string"},
        {"type": "string", "maxLength": 5},
        {"type": "string", "pattern": "^[a-c]{2,4}$"},
        {"type": "integer", "minimum": -3, "maximum": 12},
        {"type": "number"},
        {"type": "boolean"},
        {"enum": ["红", "blue", 3, None]},
        {"type": "string", "format": "date"},
        {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    ]

    def value(depth: int) -> dict[str, Any]:
        draw = rng.random()
        if depth and draw < 0.25:
            return obj(depth - 1)
        if depth and draw < 0.45:
            return {"type": "array", "items": value(depth - 1), "minItems": rng.randint(0, 2)}
        return rng.choice(plain)

    def obj(depth: int) -> dict[str, Any]:
        names = rng.sample(["a", "name", "größe", "价格", "is ok", "x_1"], rng.randint(1, 4))
        properties = {name: value(depth) for name in names}
        required = [name for name in names if rng.random() < 0.7]
        return {"type": "object", "properties": properties, "required": required}

    return [{"title": f"schema_{number}", **obj(2)} for number in range(count)]


@pytest.fixture(scope="module")
def untrained(demo_path: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatAquila2]:
    """A model over weights drawn at random."""
    path = untrained_copy(demo_path, tmp_path_factory.mktemp("untrained") / "untrained")
    with ChatAquila2(
        model=path, template="aquila-v1", device="cpu", temperature=1.0, top_p=1.0, max_tokens=200
    ) as chat:
        yield chat


def parse_all(chat: ChatAquila2, count: int) -> None:
    for number, schema in enumerate(random_schemas(count)):
        method: Any = METHODS[number % 3]
        own = chat.with_structured_output(schema, method=method, include_raw=True)
        answer = own.invoke(ASK, seed=number)
        assert answer["parsing_error"] is None, (schema, answer)
        jsonschema.validate(answer["parsed"], schema)


def test_random_weights_answer_by_random_schemas(untrained: ChatAquila2) -> None:
    parse_all(untrained, 6)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_random_weights_answer_by_two_hundred_random_schemas(untrained: ChatAquila2) -> None:
    parse_all(untrained, 200)


class Booking(pydantic.BaseModel):
    """A booking, of what its class reads more strictly than its schema says."""

    day: datetime.date
    noted: datetime.datetime
    until: datetime.time
    lasts: datetime.timedelta
    number: uuid.UUID
    site: pydantic.HttpUrl
    host: pydantic.IPvAnyAddress
    price: decimal.Decimal


@pytest.mark.parametrize(
    ("method", "count"),
    [
        ("json_schema", 1),
        *(pytest.param(method, 50, marks=pytest.mark.slow) for method in METHODS),
    ],
)
@pytest.mark.timeout(600)
def test_random_weights_write_dates_and_their_like_that_the_class_reads(
    untrained: ChatAquila2, method: Any, count: int
) -> None:
    model = untrained.with_structured_output(Booking, method=method)
    for seed in range(count):
        assert isinstance(model.invoke(ASK, seed=seed, max_tokens=260), Booking)


def test_with_tools_beside_it_an_answer_is_the_object_or_a_call(chat: ChatAquila2) -> None:
    """A call is no object: there is none then, and no error."""
    tool = {"title": "now", "description": "Get the time.", "type": "object", "properties": {}}
    for choice in ("any", "none"):
        given: dict[str, Any] = {"tools": [tool], "tool_choice": choice}
        answer = chat.with_structured_output(Person, include_raw=True, **given).invoke(ASK)
        assert answer["parsing_error"] is None
        assert bool(answer["raw"].tool_calls) is (choice == "any")
        assert isinstance(answer["parsed"], Person) is (choice == "none")
    with pytest.raises(ours.InvalidRequestError, match="tools is set by"):
        chat.with_structured_output(Person, method="function_calling", tools=[tool])


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_a_json_schema_needs_no_title_and_keeps_all_it_says(chat: ChatAquila2, method: Any) -> None:
    """LangChain's form of a function wants a title and keeps nothing but properties."""
    either = [{"properties": {name: {"const": 1}}, "required": [name]} for name in ("a", "b")]
    for schema in (
        {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]},
        {"title": "either", "anyOf": [{"type": "object", **one} for one in either]},
    ):
        found = chat.with_structured_output(schema, method=method).invoke(ASK)
        assert found in ({"a": 1}, {"b": 1})


def test_a_tool_that_is_none_is_refused_with_what_it_lacks(chat: ChatAquila2) -> None:
    with pytest.raises(ours.InvalidPromptError, match="top-level 'title'"):
        chat.bind_tools([{"type": "object", "properties": {}}])
