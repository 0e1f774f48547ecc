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
# One of these, or a type, says what a value is. A dict without any is no schema but some other
# form, and would let every answer pass.
_SAYING: Final = frozenset(
    {
        *("properties", "patternProperties", "additionalProperties", "required"),
        *("items", "prefixItems", "minItems", "maxItems", "minLength", "maxLength"),
        *("enum", "const", "anyOf", "oneOf", "allOf", "not", "if", "$ref", "pattern", "format"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    }
)
_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
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


def unwrapped(schema: Any) -> tuple[Any, bool | None]:
    """Return what stands in OpenAI's wrappers around a schema, with their ``strict``.

    They are ``{"name": ..., "schema": ..., "strict": ...}`` and ``{"type": "json_schema",
    "json_schema": ...}`` around it; the name is the schema's title where it has none.
    """
    inner = schema
    if isinstance(inner, Mapping) and inner.get("type") == "json_schema":
        inner = inner.get("json_schema", {key: inner[key] for key in inner if key != "type"})
    if not isinstance(inner, Mapping) or _says(inner):
        return schema, None
    if not isinstance(found := inner.get("schema"), Mapping):
        return schema, None
    titled = {"title": inner["name"], **found} if isinstance(inner.get("name"), str) else found
    strict = inner.get("strict")
    return titled, strict if isinstance(strict, bool) else None


def json_schema_of(schema: Any) -> dict[str, Any]:
    """Return the JSON schema of a pydantic (v1 or v2) or TypedDict class, function or dict.

    Raises:
        InvalidConstraintError: It has none, or is a dict that says nothing about an answer.
    """
    found = _json_schema_of(schema)
    if isinstance(schema, Mapping) and not _says(found):
        raise InvalidConstraintError(
            f"schema={shown(schema)} says nothing about an answer: it has no keyword of JSON "
            "schema.",
            parameter="schema",
            value=schema,
            hint=_HINT,
        )
    return found


def _says(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    return bool(schema.keys() & _SAYING) or isinstance(kind, list) or kind in _TYPES


def _json_schema_of(schema: Any) -> dict[str, Any]:
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
