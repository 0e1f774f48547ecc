"""Patterns of strings: what people write in schemas compiles soon, and its answers are found."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime import JsonSchema
from aquila2_runtime.grammar.compiler import Compiler, compiler_for
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from tests.grammar.schemas import valid


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Aquila2Tokenizer:
    return Aquila2Tokenizer.load(shared_data / "aquila2-tokenizer", vocab_size=100_008)


@pytest.fixture(scope="module")
def compiler(real: Aquila2Tokenizer) -> Compiler:
    return compiler_for(real)


def text(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


def record(**members: str) -> dict[str, Any]:
    properties = {name: text(pattern) for name, pattern in members.items()}
    return {"type": "object", "properties": properties, "required": list(members)}


def check(compiler: Compiler, schema: dict[str, Any]) -> None:
    began = time.thread_time()
    compiled = compiler.compile(JsonSchema(schema))
    assert time.thread_time() - began < 0.3
    assert compiled.way is not None
    assert valid(json.loads(compiled.way), schema), compiled.way


def test_patterns_of_other_scripts_are_not_too_complex(compiler: Compiler) -> None:
    """Every byte that begins or goes on a character was tried, and the tries did not suffice."""
    person = record(
        name=r"^[\u4e00-\u9fa5]{2,4}$", phone=r"^1[3-9]\d{9}$", city=r"^[\u4e00-\u9fa5]{2,10}$"
    )
    check(compiler, person)
    check(compiler, {"type": "array", "items": person, "minItems": 2})
