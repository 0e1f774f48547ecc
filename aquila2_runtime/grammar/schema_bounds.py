r"""Schemas made fit for the compiler: bounded, closed, and without what it cannot enforce.

It compiles nothing. Everything here is linear in the schema and happens before any compiler sees
it. What is changed narrows a schema, as pydantic reads it, so that whatever is accepted then was
accepted before:

* An object with ``properties`` that is silent about others has none (``additionalProperties``
  becomes false), except where ``allOf`` or ``$ref`` combine it with another, or where it requires
  a member that it says nothing about.
* A schema with ``properties`` and no ``type`` is an object's, one with ``items`` an array's.
* ``\w`` and ``\W`` in a pattern are spelt out for all scripts (see ``word_classes``).
* A ``format`` becomes a pattern where what reads its strings accepts less (see ``formats``).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aquila2_runtime.grammar.combined import combined_places, is_joined
from aquila2_runtime.grammar.formats import PATTERNS, SILENT, narrowed
from aquila2_runtime.grammar.look_around import looks_around
from aquila2_runtime.grammar.plain_json import check_json, check_size, refuse, values
from aquila2_runtime.grammar.word_classes import unicode_words

MAX_DEPTH: Final = 32  # schemas within schemas
MAX_PROPERTIES: Final = 500
MAX_ENUM: Final = 1_000
MAX_BRANCHES: Final = 64
MAX_COUNT: Final = 10_000  # of minItems, maxLength and their like
MAX_DIVISOR: Final = 1_000

_ONE: Final = ("items", "additionalItems", "additionalProperties")
_MANY: Final = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_NAMED: Final = ("properties", "patternProperties", "$defs", "definitions")
_COUNTS: Final = ("minItems", "maxItems", "minLength", "maxLength", "minProperties",
                  "maxProperties")  # fmt: skip
# Keywords that say something about values and that the compiler does not know.
_UNENFORCED: Final = frozenset(
    {
        "not",
        "if",
        "then",
        "else",
        "contains",
        "minContains",
        "maxContains",
        "uniqueItems",
        "propertyNames",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "unevaluatedProperties",
        "unevaluatedItems",
        "$dynamicRef",
        "$recursiveRef",
    }
)
_FORMATS: Final = frozenset({"hostname", "ipv4", "ipv6", "uuid", "unknown", *PATTERNS})
# Says nothing about values; with one of these, allOf with a single branch is that branch.
_ANNOTATIONS: Final = frozenset(
    {
        "title",
        "description",
        "default",
        "examples",
        "example",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$comment",
    }
)


def check_schema(schema: object, *, strict: bool, parameter: str) -> tuple[str, tuple[str, ...]]:
    """Return a schema as text for the compiler, and the keywords left out, each with its place.

    Args:
        schema: What should be a JSON schema.
        strict: Whether a keyword that cannot be enforced is an error.
        parameter: What holds the schema, for messages about all of it.

    Raises:
        InvalidConstraintError: It is no schema, is too large, or has such a keyword.
    """
    if not isinstance(schema, (Mapping, bool)):
        refuse(f"A JSON schema is a dict, not {type(schema).__name__}.", parameter)
    if schema is False:
        refuse("The schema false accepts nothing.", parameter)
    check_json(schema, parameter)
    before = json.dumps(schema, ensure_ascii=False)
    check_size(before, parameter)
    text, dropped = _fitted(before, strict)
    check_size(text, parameter)
    return text, dropped


# An agent shows the same tools in every turn.
@functools.lru_cache(maxsize=128)
def _fitted(before: str, strict: bool) -> tuple[str, tuple[str, ...]]:
    """A schema's text for the compiler, from its text as given, and what was left out."""
    schema = json.loads(before)
    fitted = _Fitting(strict, combined_places(schema, _ANNOTATIONS))
    text = json.dumps(fitted.fit(schema, "#", 0, combined=False), ensure_ascii=False)
    return text, tuple(fitted.dropped)


class _Fitting:
    """One walk through a schema: what was met, and what was left out."""

    def __init__(self, strict: bool, combined: frozenset[str]) -> None:
        self.dropped: list[str] = []
        self._strict = strict
        self._combined = combined
        self._properties = 0
        self._values = 0

    def fit(self, schema: object, at: str, depth: int, *, combined: bool) -> Any:
        """Return a copy of a schema as the compiler shall see it."""
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            refuse(f"{at} is no schema: it must be a dict, true or false.", _last(at))
        if depth > MAX_DEPTH:
            refuse(f"The schema is more than {MAX_DEPTH} levels deep at {at:.200}.", _last(at))
        alone = _only_branch(schema)
        if alone is not None:
            return self.fit({**schema, **alone}, at, depth + 1, combined=combined)
        combined = combined or at in self._combined
        fitted = {
            key: self._keyword(schema, key, value, at, depth, combined)
            for key, value in schema.items()
            if not self._drops(schema, key, value, at)
        }
        _say_type(fitted)
        fitted = narrowed(fitted)
        joined = combined or any(key in fitted for key in ("$ref", "allOf", "anyOf", "oneOf"))
        if "properties" in fitted and not joined and not _requires_others(fitted):
            fitted.setdefault("additionalProperties", False)
        return fitted

    def _drops(self, schema: Mapping[str, Any], key: str, value: object, at: str) -> bool:
        """Whether a keyword is left out; refuses it if it must not be."""
        if key == "x-guidance" or (key == "uniqueItems" and value is False):
            return True  # the compiler's own options, not the caller's; and what says nothing
        if key == "format":
            kinds = schema.get("type", "string")
            if kinds != "string" and (not isinstance(kinds, list) or "string" not in kinds):
                return True  # formats are about strings; here it says nothing
            if isinstance(value, str) and value in SILENT:
                return True
            known = isinstance(value, str) and value in _FORMATS
        elif key == "multipleOf":
            known = _divides_easily(value)
        elif key == "pattern":
            known = not isinstance(value, str) or not looks_around(value)
        else:
            known = key not in _UNENFORCED
        if known:
            return False
        said = f"{key} ({value})" if key in ("format", "multipleOf") else key
        if self._strict:
            refuse(
                f"The keyword {said:.80} at {at:.200} cannot be enforced.",
                key,
                hint="Take it out, or use strict=False, which leaves it out and says so.",
            )
        self.dropped.append(f"{said:.80} at {at:.200}")
        return True

    def _keyword(
        self,
        schema: Mapping[str, Any],
        key: str,
        value: Any,
        at: str,
        depth: int,
        combined: bool,
    ) -> Any:
        here = f"{at}/{key}"
        # Branches of a schema that says more beside them are combined with that.
        joins = key == "allOf" or (
            key in ("anyOf", "oneOf") and (combined or is_joined(schema, key))
        )
        if key in _NAMED:
            if not isinstance(value, Mapping):
                refuse(f"{here:.200} must be a dict of schemas.", key)
            self._count(key, len(value), here)
            spelt = unicode_words if key == "patternProperties" else str
            return {
                spelt(name): self.fit(item, f"{here}/{_escaped(name)}", depth + 1, combined=False)
                for name, item in value.items()
            }
        if key in _MANY and isinstance(value, (list, tuple)):
            if len(value) > MAX_BRANCHES:
                refuse(f"{here:.200} has more than {MAX_BRANCHES} entries.", key, value=len(value))
            return [
                self.fit(item, f"{here}/{index}", depth + 1, combined=joins)
                for index, item in enumerate(value)
            ]
        if key in _ONE:
            return self.fit(value, here, depth + 1, combined=False)
        self._check_value(key, value, here)
        if key == "pattern" and isinstance(value, str):
            return unicode_words(value)
        return value

    def _check_value(self, key: str, value: object, here: str) -> None:
        if key == "enum":
            if not isinstance(value, (list, tuple)):
                refuse(f"{here:.200} must be a list.", key)
            self._count(key, len(value), here)
        if key in _COUNTS and (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not 0 <= value <= MAX_COUNT
        ):
            refuse(f"{here:.200} must be a number from 0 to {MAX_COUNT}.", key, value=value)
        if key == "$ref" and (not isinstance(value, str) or not value.startswith("#")):
            refuse(
                f"{here:.200} must be a reference within the schema (#/$defs/...).",
                key,
                hint="Nothing is ever fetched: put the other schema under $defs.",
            )

    def _count(self, key: str, more: int, here: str) -> None:
        if key == "enum":
            self._values += more
        else:
            self._properties += more
        if self._values > MAX_ENUM:
            refuse(f"The schema has more than {MAX_ENUM} enum values, at {here:.200}.", key)
        if self._properties > MAX_PROPERTIES:
            refuse(f"The schema has more than {MAX_PROPERTIES} properties, at {here:.200}.", key)


def required_names(schema: object) -> frozenset[str]:
    """Every name that is required somewhere in a schema."""
    found: set[str] = set()
    for value in values(schema):
        if isinstance(value, Mapping):
            names = value.get("required")
            if isinstance(names, Sequence) and not isinstance(names, str):
                found.update(name for name in names if isinstance(name, str))
    return frozenset(found)


def _divides_easily(divisor: object) -> bool:
    """Whether remainders by it are few enough to be followed digit by digit."""
    if isinstance(divisor, bool) or not isinstance(divisor, (int, float)) or divisor <= 0:
        return False
    digits = f"{divisor:.12f}".rstrip("0").replace(".", "").lstrip("0")
    return float(f"{divisor:.12f}") == divisor and int(digits or "0") <= MAX_DIVISOR


def _only_branch(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The branch of an ``allOf`` that has one and stands alone."""
    branches = schema.get("allOf")
    if not isinstance(branches, (list, tuple)) or len(branches) != 1:
        return None
    branch = branches[0]
    if not isinstance(branch, Mapping) or not schema.keys() <= _ANNOTATIONS | {"allOf"}:
        return None
    return {"allOf": [], **branch} if "allOf" not in branch else branch


def _say_type(schema: dict[str, Any]) -> None:
    if schema.get("allOf") == []:
        del schema["allOf"]
    if any(key in schema for key in ("type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf")):
        return
    if "properties" in schema:
        schema["type"] = "object"
    elif "items" in schema or "prefixItems" in schema:
        schema["type"] = "array"


def _requires_others(schema: Mapping[str, Any]) -> bool:
    """Whether an object must have a member that its schema says nothing about."""
    names, own = schema.get("required"), schema["properties"]
    if not isinstance(names, (list, tuple)) or "patternProperties" in schema:
        return False
    return any(isinstance(name, str) and name not in own for name in names)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _last(at: str) -> str:
    return at.rsplit("/", 1)[-1]
