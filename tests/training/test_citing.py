"""The number of a source is that of the one that says it."""

from __future__ import annotations

import random
import re

import pytest

from training.aquila2_demo import replies
from training.aquila2_demo.citing import WHERE, citing, placing
from training.aquila2_demo.lexicon import Words

LANGS = pytest.mark.parametrize("lang", ["en", "zh"])
SOURCE = re.compile(r"(?:^|\n+)\[(\d)\] ")


def sources(document: str) -> dict[str, str]:
    parts = SOURCE.split(document)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@LANGS
def test_lines_are_found_in_the_source_that_has_them(lang: str) -> None:
    words, numbers = Words(random.Random(4), lang), list[str]()
    for _ in range(150):
        talk = placing(words, 512)
        held = sources(talk.document)
        assert len(held) >= 2
        for _, answer in talk.turns:
            value, number = re.fullmatch(r"(.*?) ?\[(\d)\]", answer).groups()  # type: ignore[union-attr]
            numbers.append(number)
            assert value in held[number]
    assert set(numbers) >= set("12345678")


@LANGS
def test_where_something_is_has_one_answer(lang: str) -> None:
    words, seen = Words(random.Random(9), lang), 0
    forms = [re.compile(re.escape(w).replace(r"\{k\}", "(.*)")) for w in WHERE[lang]]
    for _ in range(150):
        talk = placing(words, 256)
        for user, answer in talk.turns:
            if not answer.startswith("["):
                continue
            asked = user.replace(talk.document, "").strip()
            [key] = {m[1] for form in forms if (m := form.fullmatch(asked))}
            held = [n for n, text in sources(talk.document).items() if key in text]
            seen += 1
            assert held == [answer.strip("[]")]
    assert seen > 200


@LANGS
def test_an_answer_stands_in_the_document_it_cites(lang: str) -> None:
    words = Words(random.Random(8), lang)
    for _ in range(80):
        talk = citing(words, 9, 3)
        held = sources(talk.document)
        for _, answer in talk.turns:
            if answer == replies.UNKNOWN[lang]:
                continue
            value, number = answer[:-4], answer[-2]
            assert value.lower() in held[number].lower()
