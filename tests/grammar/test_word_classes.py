r"""Word classes: ``\w`` and ``\W`` mean in a constraint what they mean to pydantic, or less."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import pydantic
import pytest

from aquila2_runtime import JsonSchema
from aquila2_runtime.grammar.compiler import compiler_for
from aquila2_runtime.grammar.word_classes import unicode_words
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from tests.grammar.test_constraints import accepts

WORD = r"\p{L}_\p{Nd}"
MAYBE = r"\p{Alphabetic}\p{M}_\p{N}\p{Pc}\x{200C}\x{200D}"


@pytest.fixture(scope="module")
def tokenizer(demo_path: Path) -> Aquila2Tokenizer:
    return Aquila2Tokenizer.load(demo_path, vocab_size=4096)


def type_of(pattern: str) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(Annotated[str, pydantic.Field(pattern=pattern)])


def test_names_of_other_scripts_are_words(tokenizer: Aquila2Tokenizer) -> None:
    r"""pydantic accepted them, and the constraint, in which ``\w`` was ASCII, could not."""
    for pattern, text in ((r"^\w{2,10}$", "李文静"), (r"^[\w.-]+@[\w-]+$", "王é_1@x-я"),
                          (r"^[^\W\d]+$", "Ünal"), (r"^[\w-.]+\W$", "王-.!")):  # fmt: skip
        schema = JsonSchema({"type": "string", "pattern": pattern})
        assert accepts(tokenizer, schema, json.dumps(text, ensure_ascii=False))
        compiled = compiler_for(tokenizer).compile(schema)
        assert compiled.way is not None
        if "-.]" not in pattern:  # which these do not read
            assert type_of(pattern).validate_python(text) == text
            assert type_of(pattern).validate_json(compiled.way)


def test_names_of_members_may_have_words_of_other_scripts(tokenizer: Aquila2Tokenizer) -> None:
    key = Annotated[str, pydantic.Field(pattern=r"^\w+$")]
    schema = JsonSchema(pydantic.TypeAdapter(dict[key, int]).json_schema())  # type: ignore[valid-type]
    assert accepts(tokenizer, schema, '{"姓名": 1}')
    assert not accepts(tokenizer, schema, '{"姓名": "1"}')


@pytest.mark.parametrize("pattern", [r"^\w$", r"^\W$", r"^[^\w]$", r"^[^\W]$", r"^[\W_]$"])
def test_nothing_is_accepted_that_pydantic_or_python_refuses(
    pattern: str, tokenizer: Aquila2Tokenizer
) -> None:
    schema = JsonSchema(type_of(pattern).json_schema())
    read = type_of(pattern)
    odd = "²½Ⅷ\u0301\u200d\u203f\u24b6١😀ªʰ\u0e33\u2071\u3007"
    for character in [*odd, *map(chr, range(0x20, 0x3100, 23))]:
        if accepts(tokenizer, schema, json.dumps(character, ensure_ascii=False)):
            assert read.validate_python(character) == character
            assert re.match(pattern, character)


def test_only_word_classes_are_rewritten() -> None:
    written = {
        r"\w+": f"[{WORD}]+",
        r"\W": f"[^{MAYBE}]",
        r"\\w\[\w]": rf"\\w\[[{WORD}]]",
        r"[\w.]|[^\w]": f"[{WORD}.]|[^{MAYBE}]",
        r"[^\W]": f"[^[^{WORD}]]",
        r"[\w-.][+-\w][\w-]": rf"[{WORD}\-.][+\-{WORD}][{WORD}\-]",
        r"[]\w][^]\w]": rf"[\]{WORD}][^\]{MAYBE}]",
        r"[a[^\w]\]]\w": rf"[a[^{MAYBE}]\]][{WORD}]",
        "\\": "\\",
        "[": "[",
        r"^[a-z]\d\b-$": r"^[a-z]\d\b-$",
    }
    assert {pattern: unicode_words(pattern) for pattern in written} == written
    for rewritten in written.values():
        assert unicode_words(rewritten) == rewritten
