"""Random JSON schemas, and a plain check of values against them; both know no compiler."""

from __future__ import annotations

import random
import re
from typing import Any

NAMES = ("name", "age", "city", "tags", "id", "note", "名称", 'quo"te', "a b", "x", "next", "é")
PATTERNS = (r"^[a-z]{3}$", r"^\d+-\d+$", r"^(ab|cd)+$", r"^[A-Z][a-z]*$", r"^.{2,5}$")
FORMATS = {
    "date": r"\d{4}-\d{2}-\d{2}",
    "uuid": r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "ipv4": r"\d+(\.\d+){3}",
    "email": r"[^@]+@[^@]+",
    "time": r"\d\d:\d\d:\d\d.*",
}


def random_schema(seed: int) -> dict[str, Any]:
    """A satisfiable schema with what pydantic and hand-written schemas use."""
    rng = random.Random(seed)
    definitions = {
        "Leaf": _object(rng, 3, recursive=False),
        "Tree": {
            "type": "object",
            "properties": {
                "label": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
                "left": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]},
            },
            "required": ["label", "children"],
        },
    }
    schema = _object(rng, 0, recursive=True) if rng.random() < 0.7 else _any(rng, 0, recursive=True)
    return {**schema, "$defs": definitions}


def _any(rng: random.Random, depth: int, *, recursive: bool) -> dict[str, Any]:
    kinds = [_string, _integer, _number, _fixed]
    if depth < 3:
        kinds += [_array, _object, _union]
    if recursive and rng.random() < 0.15:
        return {"$ref": f"#/$defs/{rng.choice(['Leaf', 'Tree'])}"}
    kind = rng.choice(kinds)
    if kind in (_array, _object, _union):
        return kind(rng, depth, recursive=recursive)
    return kind(rng)


def _object(rng: random.Random, depth: int, *, recursive: bool) -> dict[str, Any]:
    names = rng.sample(NAMES, rng.randint(0, 5))
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: _any(rng, depth + 1, recursive=recursive) for name in names},
        "required": [name for name in names if rng.random() < 0.6],
    }
    if rng.random() < 0.1:
        schema["additionalProperties"] = {"type": "integer"}
    return schema


def _array(rng: random.Random, depth: int, *, recursive: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "array",
        "items": _any(rng, depth + 1, recursive=recursive),
    }
    if rng.random() < 0.4:
        schema["minItems"] = rng.randint(0, 3)
    if rng.random() < 0.4:
        schema["maxItems"] = rng.randint(3, 6)
    return schema


def _union(rng: random.Random, depth: int, *, recursive: bool) -> dict[str, Any]:
    count = rng.randint(2, 3)
    return {"anyOf": [_any(rng, depth + 1, recursive=recursive) for _ in range(count)]}


def _string(rng: random.Random) -> dict[str, Any]:
    chance = rng.random()
    if chance < 0.15:
        return {"type": "string", "pattern": rng.choice(PATTERNS)}
    if chance < 0.3:
        return {"type": "string", "format": rng.choice(list(FORMATS))}
    schema: dict[str, Any] = {"type": "string"}
    if chance < 0.5:
        schema["minLength"] = rng.randint(0, 6)
    if 0.4 < chance < 0.7:
        schema["maxLength"] = rng.randint(6, 20)
    return schema


def _integer(rng: random.Random) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    if rng.random() < 0.4:
        schema["minimum"] = rng.randint(-1000, 1000)
    if rng.random() < 0.4:
        schema["maximum"] = schema.get("minimum", 0) + rng.randint(0, 500)
    return schema


def _number(rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.3:
        return {"type": "number", "minimum": 0, "maximum": 1}
    return {"type": rng.choice(["number", "boolean", "null"])}


def _fixed(rng: random.Random) -> dict[str, Any]:
    values = rng.sample(["red", "green", "蓝色", 1, -2.5, True, None, "a\nb", [1, 2]], 3)
    return {"const": values[0]} if rng.random() < 0.3 else {"enum": values}


def valid(value: Any, schema: Any, root: Any = None) -> bool:
    """Whether a value follows a schema of the kind above, silent objects taken as closed."""
    root = schema if root is None else root
    if "$ref" in schema:
        return valid(value, root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root)
    if "anyOf" in schema:
        return any(valid(value, one, root) for one in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        allowed = schema.get("enum", [schema.get("const")])
        return any(type(value) is type(one) and value == one for one in allowed)
    return _KINDS[schema["type"]](value, schema, root)


def _valid_object(value: Any, schema: Any, root: Any) -> bool:
    if not isinstance(value, dict) or not set(schema.get("required", ())) <= value.keys():
        return False
    more = schema.get("additionalProperties")
    for name, item in value.items():
        own = schema["properties"].get(name, more)
        if own is None or not valid(item, own, root):
            return False
    return True


def _valid_array(value: Any, schema: Any, root: Any) -> bool:
    return (
        isinstance(value, list)
        and schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        and all(valid(item, schema["items"], root) for item in value)
    )


def _valid_string(value: Any, schema: Any, root: Any) -> bool:
    return (
        isinstance(value, str)
        and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        and re.search(schema.get("pattern", ""), value, re.DOTALL) is not None
        and ("format" not in schema or re.fullmatch(FORMATS[schema["format"]], value) is not None)
    )


def _valid_number(value: Any, schema: Any, root: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if schema["type"] == "integer" and not isinstance(value, int):
        return False
    return schema.get("minimum", value) <= value <= schema.get("maximum", value)


_KINDS = {
    "object": _valid_object,
    "array": _valid_array,
    "string": _valid_string,
    "integer": _valid_number,
    "number": _valid_number,
    "boolean": lambda value, schema, root: isinstance(value, bool),
    "null": lambda value, schema, root: value is None,
}
