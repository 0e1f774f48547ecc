"""Response formats: what LangChain says of an answer's form, as the runtime's constraint.

It also knows the line that tells the model of the form. It parses no answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, NoReturn, cast

import pydantic
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass

from aquila2_runtime import (
    AnyJson,
    InvalidConstraintError,
    InvalidRequestError,
    JsonSchema,
    json_instruction,
)
from aquila2_runtime.grammar.class_schema import class_schema
from aquila2_runtime.shown import one_line, shown

# What other providers' forms of a function have and a JSON schema has not.
FUNCTION_KEYS: Final = ("function", "parameters", "input_schema", "toolSpec")
_HINT: Final = (
    'Give a pydantic or TypedDict class, a JSON schema, or {"type": "json_schema", "json_schema": '
    '{"name": ..., "schema": ...}}, {"type": "json_object"} or {"type": "text"}.'
)


class Format(NamedTuple):
    """What an answer must be.

    Attributes:
        constraint: What holds the answer to it; None where it is free.
        instruction: The line that tells the model; empty for none.
    """

    constraint: JsonSchema | AnyJson | None = None
    instruction: str = ""


def format_of(response_format: object, strict: bool | None = None) -> Format:
    """Return what a ``response_format`` asks for.

    ``json_schema`` is enforced and told to the model in one line. ``json_object`` is enforced and
    not told, because prompts for it say what they want themselves; a ``schema`` beside it is
    enforced too.

    Args:
        response_format: A class or JSON schema, or a dict in OpenAI's form.
        strict: False leaves out keywords that cannot be enforced, and a notice of the answer names
            them; otherwise they are refused.

    Raises:
        InvalidRequestError: It is none of these.
        InvalidConstraintError: A schema is malformed, or has a keyword that cannot be enforced.
    """
    if response_format is None:
        return Format()
    if not isinstance(response_format, Mapping):
        return _told(json_schema_of(response_format), strict)
    kind = response_format.get("type")
    if kind == "text":
        return Format()
    if kind == "json_object":
        schema = response_format.get("schema")
        return Format(AnyJson() if schema is None else _held(schema, strict))
    if kind == "json_schema":
        inner = response_format.get("json_schema")
        if not isinstance(inner, Mapping) or not isinstance(inner.get("schema"), Mapping):
            _refuse(response_format)
        own = inner.get("strict")
        return _told(inner["schema"], own if strict is None else strict)
    if not response_format.keys() & {"properties", "$ref", "anyOf", "items", *FUNCTION_KEYS}:
        _refuse(response_format)
    return _told(json_schema_of(response_format), strict)


def json_schema_of(schema: Any) -> dict[str, Any]:
    """Return the JSON schema of a pydantic (v1 or v2) or TypedDict class, function or dict.

    Raises:
        InvalidConstraintError: It has none.
    """
    try:
        if isinstance(schema, type) and is_basemodel_subclass(schema):
            # The runtime's: recursive models stay references, and dates are Python's.
            if issubclass(schema, pydantic.BaseModel):
                return _opened(class_schema(schema))
            return dict(cast(Any, schema).schema())
        if isinstance(schema, Mapping) and not schema.keys() & set(FUNCTION_KEYS):
            return dict(schema)
        return convert_to_json_schema(schema)
    except (TypeError, ValueError, KeyError, pydantic.errors.PydanticUserError) as error:
        raise InvalidConstraintError(
            f"{shown(schema)} has no JSON schema: {one_line(error)}",
            parameter="schema",
            hint=_HINT,
        ) from error


def _opened(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that is nothing but a reference (a recursive model's), with what it refers to."""
    named = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    return {**schema["$defs"][named], "$defs": schema["$defs"]} if named else schema


def _told(schema: Mapping[str, Any], strict: bool | None) -> Format:
    return Format(_held(schema, strict), json_instruction(schema))


def _held(schema: Mapping[str, Any], strict: bool | None) -> JsonSchema:
    return JsonSchema(schema, strict=strict is not False)


def _refuse(response_format: object) -> NoReturn:
    raise InvalidRequestError(
        f"response_format={shown(response_format)} is not valid.",
        parameter="response_format",
        value=response_format,
        hint=_HINT,
    )
