"""Structured output: what is bound for a schema and a method, and what reads the answer back.

It knows no model: answers are held to the schema elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import pydantic
from langchain_core.messages import AIMessage
from langchain_core.output_parsers.openai_tools import (
    JsonOutputKeyToolsParser,
    PydanticToolsParser,
)
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass

from aquila2_runtime import InvalidRequestError
from aquila2_runtime.shown import shown
from langchain_aquila2._formats import FUNCTION_KEYS, json_schema_of, unwrapped
from langchain_aquila2._parsers import ClassCallParser, ClassParser, DictParser, OldClassParser
from langchain_aquila2._tools import openai_tools

# What a schema without a title is called.
UNNAMED: Final = "answer"
METHODS: Final = ("json_schema", "function_calling", "json_mode")


class Plan(NamedTuple):
    """How to get an object.

    Attributes:
        binding: Keywords for ``bind_tools``.
        parser: Reads the object out of an answer.
    """

    binding: dict[str, Any]
    parser: Runnable[Any, Any]


def plan(schema: Any, method: str, strict: bool | None) -> Plan:
    """Return how to get an object of a schema.

    Raises:
        InvalidRequestError: There is no such method, or it needs a schema.
        InvalidConstraintError: The schema is none.
    """
    if method not in METHODS:
        raise InvalidRequestError(
            f"method={shown(method)} is not valid; it must be one of "
            f"{', '.join(map(repr, METHODS))}.",
            parameter="method",
            value=method,
        )
    if schema is None:
        if method != "json_mode":
            raise InvalidRequestError(
                f"method={method!r} needs a schema; json_mode does not.", parameter="schema"
            )
        free = {"tools": [], "response_format": {"type": "json_object"}}
        return Plan(free, DictParser())
    schema, own = unwrapped(schema)
    strict = own if strict is None else strict
    if method == "function_calling":
        return _by_call(schema, strict)
    inner = json_schema_of(schema)
    if method == "json_mode":
        form = {"type": "json_object", "schema": inner}
    else:
        name = str(inner.get("title") or UNNAMED)
        form = {"type": "json_schema", "json_schema": {"name": name, "schema": inner}}
    binding: dict[str, Any] = {
        "tools": [],
        "response_format": form,
        "strict": strict,
        "ls_structured_output_format": {
            "kwargs": {"method": method},
            "schema": _for_tracers(schema, inner),
        },
    }
    if not _is_pydantic(schema):
        return Plan(binding, DictParser())
    kind = ClassParser if issubclass(schema, pydantic.BaseModel) else OldClassParser
    return Plan(binding, kind(pydantic_object=schema))


def with_raw(model: Runnable[Any, Any], parser: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return model and parser in a row that keeps the message, and errors instead of raising.

    A stream's message is read when it is whole: a parser that is given it as a stream's piece would
    close what a timeout cut short.
    """

    def read(answer: Mapping[str, Any]) -> dict[str, Any]:
        try:
            parsed = parser.invoke(answer["raw"])
        except Exception as error:
            return {**answer, "parsed": None, "parsing_error": error}
        return {**answer, "parsed": parsed, "parsing_error": None}

    return RunnableMap(raw=model) | RunnableLambda(read)


def unless_called(parser: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return a parser that gives None for an answer that calls tools instead."""

    def parse(message: AIMessage) -> Any:
        return None if message.tool_calls else parser.invoke(message)

    return RunnableLambda(parse)


def _by_call(schema: Any, strict: bool | None) -> Plan:
    """One call of one tool whose arguments are the object."""
    [found] = openai_tools([_as_function(schema)])
    tool = {**found, "function": dict(found["function"])}  # a dict of the caller's stays his
    function = tool["function"]
    if _is_pydantic(schema):
        # As pydantic has it: LangChain's form has no recursion.
        own = json_schema_of(schema)
        function["parameters"] = {
            key: value for key, value in own.items() if key not in ("title", "description")
        }
    # Refused like any other schema that cannot be enforced, unless the caller says otherwise.
    function["strict"] = strict is not False
    name = function["name"]
    binding = {
        "tools": [tool],
        "tool_choice": name,
        "parallel_tool_calls": False,
        "ls_structured_output_format": {
            "kwargs": {"method": "function_calling"},
            "schema": _for_tracers(schema, function.get("parameters", {})),
        },
    }
    if not _is_pydantic(schema):
        return Plan(binding, JsonOutputKeyToolsParser(key_name=name, first_tool_only=True))
    if issubclass(schema, pydantic.BaseModel):
        return Plan(binding, ClassCallParser(key_name=name, pydantic_object=schema))
    return Plan(binding, PydanticToolsParser(tools=[schema], first_tool_only=True))


def _as_function(schema: Any) -> Any:
    """A plain JSON schema as a function; LangChain wants a title and keeps only properties."""
    if not isinstance(schema, Mapping):
        return schema
    json_schema_of(schema)  # refuses what says nothing, as a function without parameters
    if schema.keys() & {*FUNCTION_KEYS}:
        return schema
    function = {
        "name": str(schema.get("title") or UNNAMED),
        "description": str(schema.get("description") or ""),
        "parameters": {key: schema[key] for key in schema if key not in ("title", "description")},
    }
    return {"type": "function", "function": function}


def _is_pydantic(schema: Any) -> bool:
    return isinstance(schema, type) and is_basemodel_subclass(schema)


def _for_tracers(schema: Any, inner: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema in the form LangSmith shows; as it is where it has no title."""
    try:
        return convert_to_json_schema(schema)
    except (TypeError, ValueError, KeyError):
        return inner
