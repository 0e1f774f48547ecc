"""Formats: an answer that fits a class's schema is one that the class reads."""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import json
import pathlib
import random
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest

from aquila2_runtime import InvalidConstraintError, JsonSchema
from aquila2_runtime.grammar.class_schema import class_schema
from aquila2_runtime.grammar.compiler import Compiler, compiler_for
from aquila2_runtime.grammar.formats import PATTERNS
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from tests.grammar.test_schemas import drive

KINDS: dict[str, Any] = {
    "date": datetime.date,
    "time": datetime.time,
    "date-time": datetime.datetime,
    "aware": pydantic.AwareDatetime,
    "naive": pydantic.NaiveDatetime,
    "duration": datetime.timedelta,
    "uuid": uuid.UUID,
    "uuid4": pydantic.UUID4,
    "uuid7": pydantic.UUID7,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "ipvanyaddress": pydantic.IPvAnyAddress,
    "uri": pydantic.AnyUrl,
    "web address": pydantic.HttpUrl,
    "websocket": pydantic.WebsocketUrl,
    "decimal": decimal.Decimal,
    "bounded decimal": pydantic.condecimal(gt=0, le=99),
    "path": pathlib.Path,
    "password": pydantic.SecretStr,
    "binary": bytes,
}


@pytest.fixture(scope="module")
def compiler(demo_path: Path) -> Any:
    tokenizer = Aquila2Tokenizer.load(demo_path, vocab_size=4096)
    yield compiler_for(tokenizer), tokenizer


def check(kind: str, own: bool, seeds: range, compiler: tuple[Compiler, Aquila2Tokenizer]) -> None:
    made = pydantic.create_model("Made", x=(KINDS[kind], ...))
    schema = class_schema(made) if own else made.model_json_schema()
    compiled = compiler[0].compile(JsonSchema(schema))
    for seed in seeds:
        rng = random.Random(seed)
        room = max(compiled.least_tokens, 1) + rng.choice((0, 3, 12, 40))
        text, _ = drive(compiled, compiler[1], room, rng)
        made.model_validate_json(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_reads_whatever_fits_its_schema(kind: str, compiler: Any) -> None:
    """Ids drawn evenly from what is allowed: the least likely answers are as likely as any."""
    check(kind, True, range(3), compiler)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_class_reads_two_hundred_answers_that_fit_its_schema(kind: str, compiler: Any) -> None:
    check(kind, True, range(200), compiler)


# What pydantic's own schema says of the others, no schema can: "web address" is any URI there.
PLAIN = ("date", "date-time", "time", "duration", "uuid4", "ipvanyaddress", "uri", "path")


@pytest.mark.parametrize("kind", PLAIN)
def test_formats_hold_in_schemas_that_come_without_their_class(kind: str, compiler: Any) -> None:
    """As tools and dicts do."""
    check(kind, False, range(2), compiler)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("date", "2024-02-29"),
        ("date", "2023-02-29"),
        ("date", "1900-02-29"),
        ("date", "2023-04-31"),
        ("date", "0000-01-01"),
        ("time", "23:59:59Z"),
        ("time", "23:59:60Z"),
        ("time", "24:00:00Z"),
        ("date-time", "2024-02-29T12:00:00.5+08:00"),
        ("date-time", "2024-02-29T12:00:00+99:00"),
        ("date-time", "2024-13-01T12:00:00Z"),
        ("duration", "P1Y2M3DT4H5M6S"),
        ("duration", "P2W"),
        ("duration", "P9999999999D"),
        ("duration", "P"),
        ("uri", "https://example.org:8080/a%20b?c=d#e"),
        ("uri", "mailto:lena@example.org"),
        ("uri", "no address"),
        ("ipvanyaddress", "::1"),
        ("ipvanyaddress", "127.0.0.1"),
        ("ipvanyaddress", "256.0.0.1"),
    ],
)
def test_a_pattern_accepts_a_text_as_its_class_does(kind: str, text: str) -> None:
    made = pydantic.create_model("Made", x=(KINDS[kind], ...))
    try:
        made.model_validate_json(json.dumps({"x": text}))
    except pydantic.ValidationError:
        assert not re.fullmatch(PATTERNS[kind], text)
    else:
        assert re.fullmatch(PATTERNS[kind], text)


@pytest.mark.parametrize(
    ("address", "fits"),
    [
        ("lena.m+x@mail.example.org", True),
        ("a@b.cn", True),
        ("a@b.museum", True),
        ("a@b", False),
        ("a@b.test", False),
        ("a@b.localhost", False),
        ("a@b.invalid", False),
        ("a..b@c.org", False),
        (".a@c.org", False),
        ("a@-c.org", False),
    ],
)
def test_an_e_mail_s_pattern_leaves_out_what_no_mail_reaches(address: str, fits: bool) -> None:
    assert bool(re.fullmatch(PATTERNS["email"], address)) is fits


def test_an_e_mail_closes_wherever_it_stands(compiler: Any) -> None:
    mail = {"type": "string", "format": "email"}
    schema = {"properties": {"to": mail, "n": {"type": "null"}}, "required": ["to", "n"]}
    compiled = compiler[0].compile(JsonSchema(schema))
    assert compiled.way == b'{"to": "a@a.aa", "n": null}'
    for seed in range(4):
        text, _ = drive(compiled, compiler[1], 24 + seed * 8, random.Random(seed))
        assert re.fullmatch(PATTERNS["email"], json.loads(text)["to"])


def test_many_patterns_side_by_side_close(compiler: Any) -> None:
    """Each of their other beginnings was once followed as far as the whole answer is long."""
    made = pydantic.create_model(
        "Made", **{f"x{n}": (k, ...) for n, k in enumerate(KINDS.values())}
    )
    compiled = compiler[0].compile(JsonSchema(class_schema(made)))
    text, cut = drive(compiled, compiler[1], compiled.least_tokens, random.Random(1))
    assert cut
    made.model_validate_json(text)


def test_a_pattern_beside_a_format_holds_too(compiler: Any) -> None:
    schema = {"type": "string", "format": "date", "pattern": "^2024-"}
    compiled = compiler[0].compile(JsonSchema(schema))
    for seed in range(5):
        text, _ = drive(compiled, compiler[1], 40, random.Random(seed))
        assert datetime.date.fromisoformat(json.loads(text)).year == 2024


def test_a_class_without_a_schema_is_refused_by_name() -> None:
    class Odd(pydantic.BaseModel):
        ask: Callable[[], int]

    with pytest.raises(InvalidConstraintError, match="Odd has no JSON schema"):
        class_schema(Odd)
