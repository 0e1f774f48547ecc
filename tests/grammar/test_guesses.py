"""Guesses: from most places in a JSON text one of them completes it; in text, begun characters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aquila2_runtime import AnyJson, Aquila2Runtime, Message, Regex, SamplingParams
from aquila2_runtime.grammar.closing import Closing
from aquila2_runtime.grammar.guesses import beginnings, json_guesses, text_guesses
from aquila2_runtime.grammar.json_position import ESCAPED, JsonPosition

DOCUMENT = {
    "name": "Lena 王",
    "tags": ["a", "", {"deep": [[], {"x": None}, 12, True]}],
    "note": 'she said "no"\\ \n',
    "size": {"w": 10, "h": {}},
}


def _parses(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_from_every_place_but_within_words_and_escapes_a_json_text_can_be_completed() -> None:
    text = json.dumps(DOCUMENT, ensure_ascii=False).encode()
    for count in range(1, len(text)):
        written = text[:count]
        place = JsonPosition().after(written)
        scalar = text[count - 1 : count].isalnum() and place.quote == 0
        if place.quote == ESCAPED or scalar or text[count : count + 1] == b":":
            continue
        guesses = [first + rest for first in beginnings(written) for rest in json_guesses(place)]
        assert any(_parses(written + guess) for guess in guesses), written


@pytest.mark.parametrize("character", ["é", "王", "\u0800", "\ud7ff", "😀", "\U0010ffff", "a"])
def test_a_character_that_was_begun_can_be_completed(character: str) -> None:
    whole = character.encode()
    for count in range(1, len(whole) + 1):
        found = []
        for first in beginnings(whole[:count]):
            try:
                found.append((whole[:count] + first).decode())
            except UnicodeDecodeError:
                continue
        assert found


def test_what_completed_a_text_before_still_does_one_character_less_or_not() -> None:
    assert list(text_guesses(b"aaa")) == [b"aa", b"aaa"]
    assert list(text_guesses(b"\xa1\xa1aaa")) == [b"aa", b"aaa"]


@pytest.mark.parametrize(
    "constraint", [AnyJson(), Regex(r"(.|\n){60,}")], ids=["any JSON", "text of a length"]
)
def test_hardly_a_search_is_made_while_answers_are_written(
    demo_runtime: Aquila2Runtime, constraint: AnyJson | Regex, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = 0
    original = Closing.find

    def counted(*args: Any, **kwargs: Any) -> bytes | None:
        nonlocal searches
        searches += 1
        return original(*args, **kwargs)

    monkeypatch.setattr(Closing, "find", counted)
    asked = [Message("user", "我叫李文静。Tell me about it in JSON.")]
    written = 0
    for seed in range(8):
        params = SamplingParams(
            temperature=1.0, seed=seed, min_tokens=30, max_tokens=120, constraint=constraint
        )
        written += len(demo_runtime.chat(asked, params).token_ids)
    assert written > 200
    assert searches < written / 10
