"""Schemas, more than a hundred, expressions and grammars that try to hang or bloat a compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from aquila2_runtime import Choice, JsonSchema, LarkGrammar, Regex

Make = Callable[[], Any]


def nested(depth: int, key: str = "not") -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {key: schema} if key != "anyOf" else {"anyOf": [schema, schema]}
    return schema


def deep_object(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def circular() -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    schema["properties"] = {"a": schema}
    return schema


def products(factors: int, branches: int) -> dict[str, Any]:
    return {
        "allOf": [
            {"anyOf": [{"minLength": i + j * branches} for i in range(branches)]}
            for j in range(factors)
        ]
    }


def references(count: int) -> dict[str, Any]:
    links = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(count)}
    return {"$ref": "#/$defs/d0", "$defs": {**links, f"d{count}": {"type": "null"}}}


def objects(count: int) -> list[dict[str, Any]]:
    return [
        {"type": "object", "properties": {f"p{i}": {"type": "string"}}, "required": [f"p{i}"]}
        for i in range(count)
    ]


PATTERNS = [
    "(a+)+b",
    "(a|aa)+c{1,5000}",
    ".*a.{30}b",
    "x{1,100000}",
    "(a?){500}a{500}",
    "((((a*)*)*)*)*b",
    "(.*)(.*)(.*)(.*)(.*)x",
    "[a-z]{1,1000}[a-z]{1,1000}q",
    "(?=a)b",
    r"(a)\1",
    "(",
    "[",
    "a{2,1}",
    "(?P<x>a)",
    r"\p{Nonsense}",
    "(x+x+)+y",
    "a{1000000}",
    "(a{1,100}){1,100}",
    "(?i)" + "ab" * 400,
    "|".join(f"w{i}" for i in range(300)),
    ".{500}",
    r"(\w+\s?)*end",
    "^^a$$",
    r"\bword\b",
    r"[^\S\s]",
    "(a|b|c|d|e|f)*zzz" * 5,
    ".*" * 60 + "x",
    "(?:.{0,50}q){0,50}",
]

GRAMMARS = [
    "start: start",
    "start: start start | ",
    "start: a\na: b\nb: a",
    'start: "a"*',
    "start:",
    "nothing",
    "start: x",
    'start: ("a" | "b" | "ab")*',
    "start: /(a+)+b/",
    'start: a a a a\na: b b b b\nb: c c c c\nc: "x"?',
    "%import common.WORD\nstart: WORD",
    'start: "a" "b',
    "start: %json {",
    'start: %json {"not": {}}',
    'start: %json {"$ref": "http://127.0.0.1/x"}',
    "start: /[/",
    "start: @other",
    'start: "a"{1,1000000}',
    "start: " + "(" * 2000 + '"a"' + ")" * 2000,
    "start: " + " | ".join(f'"{i}"' for i in range(5000)),
    'start: e\ne: e "+" e | "(" e ")" | /[0-9]+/',
    "start: <[0-9999999]>",
    "start: <unknown>",
    "\x00",
    "start: /\\p{L}{1,5000}/",
]

SCHEMAS: list[Make] = [
    lambda: nested(200),
    lambda: nested(3000),
    lambda: nested(50_000),
    lambda: nested(30),
    lambda: nested(12, "anyOf"),
    lambda: deep_object(20),
    lambda: deep_object(31),
    lambda: deep_object(200),
    circular,
    lambda: {"enum": list(range(20_000))},
    lambda: {"enum": list(range(1_000))},
    lambda: {"enum": ["x" * 60_000]},
    lambda: {"enum": []},
    lambda: {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(5_000)}},
    lambda: {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(500)}},
    lambda: {
        "type": "object",
        "properties": {f"p{i}": {"type": "string"} for i in range(500)},
        "required": [f"p{i}" for i in range(500)],
    },
    lambda: {"type": "object", "properties": {"p" * 70_000: {}}},
    lambda: {"type": "string", "minLength": 10**9},
    lambda: {"type": "string", "minLength": 10_000},
    lambda: {"type": "string", "maxLength": 10_000},
    lambda: {"type": "array", "minItems": 10**9},
    lambda: {"type": "array", "minItems": 10_000, "items": {"type": "integer"}},
    lambda: {"type": "array", "maxItems": 10_000, "items": {"type": "integer"}},
    lambda: {"type": "string", "minLength": -1},
    lambda: {"type": "string", "minLength": "many"},
    lambda: {"type": "integer", "minimum": 10**30},
    lambda: {"type": "number", "minimum": float("nan")},
    lambda: {"type": "number", "multipleOf": 1e-300},
    lambda: {"type": "integer", "multipleOf": 0},
    lambda: {"type": "integer", "minimum": 5, "maximum": 3},
    lambda: {"multipleOf": 999_983, "type": "integer"},
    lambda: products(4, 8),
    lambda: products(8, 8),
    lambda: products(16, 64),
    lambda: {"allOf": objects(60)},
    lambda: {"anyOf": objects(64)},
    lambda: {"oneOf": objects(64)},
    lambda: {"anyOf": objects(65)},
    lambda: {"$ref": "#"},
    lambda: {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    lambda: {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    },
    lambda: {"$ref": "#/nowhere"},
    lambda: {"$ref": "http://169.254.169.254/latest"},
    lambda: {"$ref": "file:///etc/passwd"},
    lambda: {"$ref": 7},
    lambda: {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    lambda: {"type": "object", "properties": 5},
    lambda: {"type": 5},
    lambda: {"type": "what"},
    lambda: {"anyOf": {}},
    lambda: {"anyOf": []},
    lambda: {"properties": {"a": 3}},
    lambda: {1: 2},
    lambda: {"enum": [object()]},
    lambda: {"type": "string", "pattern": "(" * 1000},
    lambda: {"x-guidance": {"whitespace_flexible": True}, "type": "array"},
    lambda: {"type": "object", "patternProperties": {"(a+)+$": {"type": "string"}}},
    lambda: {"type": "object", "additionalProperties": {"$ref": "#"}, "minProperties": 500},
    lambda: {"title": "\ud800"},
    lambda: {"const": {"a": [{}] * 5_000}},
    lambda: {"type": "string", "format": "uri", "minLength": 9_000},
    lambda: {"type": "string", "format": "email", "maxLength": 3},
    lambda: {"type": "string", "format": "date", "pattern": "(a+)+b"},
    lambda: references(30),
    lambda: references(400),
    lambda: {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
    lambda: {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    lambda: {"properties": {"a": {"$ref": "#/properties/a"}}, "required": ["a"]},
    lambda: {"type": "array", "prefixItems": [{"type": "string"}] * 64, "items": False},
    lambda: {"type": "array", "prefixItems": [{}] * 65},
    lambda: {"enum": ["a" * length for length in range(1, 300)]},
    lambda: {"properties": {f"p{i}": {"enum": [*range(33)]} for i in range(30)}},
    lambda: {"patternProperties": {f"^({c}+)+$": {"type": "string"} for c in "abcdefghij"}},
    lambda: False,
    lambda: None,
    lambda: "schema",
]


def hostile_schemas() -> Iterator[tuple[str, Make]]:
    """Names and what makes each schema a constraint; making one may already refuse it."""
    for index, make in enumerate(SCHEMAS):
        yield f"schema {index}", lambda make=make: JsonSchema(make())
    for pattern in PATTERNS:
        schema = {"type": "string", "pattern": pattern}
        yield f"schema of {pattern[:30]}", lambda schema=schema: JsonSchema(schema)


def hostile() -> Iterator[tuple[str, Make]]:
    """The same of constraints of every kind."""
    yield from hostile_schemas()
    for pattern in PATTERNS:
        yield f"pattern {pattern[:30]}", lambda pattern=pattern: Regex(pattern)
    for grammar in GRAMMARS:
        yield f"grammar {grammar[:30]!r}", lambda grammar=grammar: LarkGrammar(grammar)
    yield "long choices", lambda: Choice(["x" * 5_000 + str(i) for i in range(12)])
    yield "many choices", lambda: Choice([str(i) for i in range(1_001)])
