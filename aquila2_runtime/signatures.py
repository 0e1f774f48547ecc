"""Signatures: JSON schemas as types in the manner of TypeScript, for a model to read.

They enforce nothing: a grammar does that. JSON schemas say the same at three times the length, and
the 7B chat model reads 2,048 tokens in all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_DEPTH: Final = 8
# Schemas within schemas, references followed: unions of unions would else grow exponentially.
_MAX_TYPES: Final = 2_000


def json_instruction(schema: Mapping[str, Any]) -> str:
    """Return the line that asks for JSON of a schema; it belongs behind a question's blank line.

    Models answer better in a form they were told of; the grammar holds them to it either way.

    Example:
        >>> json_instruction({"properties": {"name": {"type": "string"}}, "required": ["name"]})
        'Answer in JSON: {name: string}'
    """
    return f"Answer in JSON: {signature(schema)}"


def signature(schema: Mapping[str, Any]) -> str:
    """Return a JSON schema as a type in the manner of TypeScript, for a model to read.

    What has no short form there (patterns, bounds, recursion) is left out: this is a hint, not the
    schema. Local references are followed; below 8 levels, and after 2,000 types, everything is
    "any".

    Example:
        >>> signature({"type": "object", "properties": {"age": {"type": "integer"}}})
        '{age?: integer}'
    """
    return _Types(schema).of(schema, 0)


def members(schema: Mapping[str, Any]) -> str:
    """Return an object schema's members, as between the brackets of a signature."""
    return _Types(schema).members(schema, 0)


def properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an object schema's properties, none where it has no such dict."""
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}


class _Types:
    """One walk through a schema."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = _MAX_TYPES

    def of(self, schema: object, depth: int) -> str:
        """A schema as a type."""
        self._left -= 1
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH or self._left < 0:
            return "any"
        if "$ref" in schema:
            return self.of(self._resolve(schema["$ref"]), depth + 1)
        if isinstance(schema.get("enum"), (list, tuple)):
            return "|".join(_written(item) for item in schema["enum"])
        if "const" in schema:
            return _written(schema["const"])
        for key in ("anyOf", "oneOf", "allOf"):
            choices = schema.get(key)
            if isinstance(choices, Sequence) and choices and not isinstance(choices, str):
                joint = "&" if key == "allOf" else "|"
                return joint.join(dict.fromkeys(self.of(item, depth + 1) for item in choices))
        kind = schema.get("type")
        if isinstance(kind, list):
            return "|".join(self.of({**schema, "type": item}, depth + 1) for item in kind)
        if kind == "array":
            inner = self.of(schema.get("items", {}), depth + 1)
            return f"({inner})[]" if "|" in inner or "&" in inner else f"{inner}[]"
        if kind == "object" or "properties" in schema:
            inside = self.members(schema, depth)
            return f"{{{inside}}}" if inside else "object"
        return kind if isinstance(kind, str) else "any"

    def members(self, schema: Mapping[str, Any], depth: int) -> str:
        """An object schema's members."""
        required = schema.get("required", ())
        if not isinstance(required, (list, tuple)):
            required = ()
        shown = []
        for name, member in properties(schema).items():
            plain = isinstance(name, str) and _IDENTIFIER.fullmatch(name)
            mark = "" if name in required else "?"
            shown.append(f"{name if plain else _written(name)}{mark}: {self.of(member, depth + 1)}")
        return ", ".join(shown)

    def _resolve(self, reference: object) -> object:
        """Follow a reference within the schema; anything else is read as "any"."""
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return None
        found: object = self._root
        for step in reference[2:].split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or key not in found:
                return None
            found = found[key]
        return found


def _written(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return "any"
