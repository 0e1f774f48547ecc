"""Combined schemas: which say more about a value together than each alone. It changes none.

An object's schema that is closed (see ``schema_bounds``) allows no members but its own, so none of
those that are combined with another may be closed: the other's members would be impossible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from aquila2_runtime.grammar.plain_json import values

_BRANCHES: Final = ("allOf", "anyOf", "oneOf")
_TOGETHER: Final = frozenset({"properties", "$ref", *_BRANCHES})
# Beside one branch of allOf these combine nothing with it.
_APART: Final = frozenset({"allOf", "$defs", "definitions", "$schema", "$id"})


def is_joined(schema: Mapping[str, Any], key: str) -> bool:
    """Whether a schema says more about a value, beside what is under this key of its own."""
    return not (schema.keys() & _TOGETHER) <= {key}


def combined_places(schema: object, annotations: frozenset[str]) -> frozenset[str]:
    """Places of schemas that references combine with others.

    Args:
        schema: All of it.
        annotations: Keywords that say nothing about values.
    """
    found: set[str] = set()
    seen: dict[int, object] = {}  # which keeps them, so that no other comes to have the same id
    left = [
        branch
        for value in values(schema)
        if isinstance(value, Mapping)
        for branch in _joined(value, annotations)
    ]
    while left:
        branch = left.pop()
        if not isinstance(branch, Mapping) or id(branch) in seen:
            continue
        seen[id(branch)] = branch
        for key in _BRANCHES:
            left += _entries(branch, key)
        reference = branch.get("$ref")
        if isinstance(reference, str) and reference not in found:
            found.add(reference)
            left.append(_at(schema, reference))
    return frozenset(found)


def _joined(schema: Mapping[str, Any], annotations: frozenset[str]) -> Iterator[object]:
    """What a schema combines, with each other or with what it says itself."""
    branches = _entries(schema, "allOf")
    if len(branches) > 1 or not schema.keys() <= annotations | _APART:
        yield from branches
    for key in ("anyOf", "oneOf"):
        if is_joined(schema, key):
            yield from _entries(schema, key)
    if is_joined(schema, "$ref"):
        yield {"$ref": schema.get("$ref")}


def _entries(schema: Mapping[str, Any], key: str) -> list[object]:
    entries = schema.get(key)
    return list(entries) if isinstance(entries, (list, tuple)) else []


def _at(schema: object, reference: str) -> object:
    """What a reference points at, or None."""
    place: object = schema
    for name in reference.split("/")[1:]:
        spelt = name.replace("~1", "/").replace("~0", "~")
        if isinstance(place, Mapping):
            place = place.get(spelt)
        elif isinstance(place, list) and spelt.isascii() and spelt.isdigit():
            place = place[int(spelt)] if len(spelt) < 9 and int(spelt) < len(place) else None
        else:
            return None
    return place
