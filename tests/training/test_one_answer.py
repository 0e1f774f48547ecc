"""A question has one answer: nothing in a talk lets another be as good."""

from __future__ import annotations

import random
import re

import pytest

from training.aquila2_demo import filler
from training.aquila2_demo.condensing import condensing
from training.aquila2_demo.facts import Fact
from training.aquila2_demo.following import following
from training.aquila2_demo.lexicon import Words
from training.aquila2_demo.prose import prose
from training.aquila2_demo.reasoning import everyone, shelf
from training.aquila2_demo.relations import attributes
from training.aquila2_demo.subjects import Subject
from training.aquila2_demo.values import akin

LANGS = pytest.mark.parametrize("lang", ["en", "zh"])


def told(lang: str, name: str, key: str, value: str) -> Fact:
    relation = next(a for a in attributes(lang) if a.key == key)
    who = Subject(relation.subject, name, "", "she" if lang == "en" else "她")
    return Fact(who, relation, (("v", value),))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("周三", "星期三", True),
        ("Monday", "Mondays", True),
        ("百分之12", "12%", True),
        ("7 per cent", "7 percent", True),
        ("driver", "bus driver", True),
        ("5月3日", "2020年5月3日", True),
        ("1月3日", "11月3日", False),
        ("5 kg", "15 kg", False),
        ("Rome", "Paris", False),
    ],
)
def test_values_of_one_meaning_are_known(one: str, other: str, same: bool) -> None:
    assert akin(one, other) == akin(other, one) == same


@LANGS
def test_no_pronoun_follows_a_sentence_about_two_alike(lang: str) -> None:
    words = Words(random.Random(2), lang)
    names = ("Ann Lee", "Bo Hill") if lang == "en" else ("李安", "王波")
    facts = [told(lang, names[0], "spouse", names[1]), told(lang, names[0], "age", "41")]
    for _ in range(200):
        text = prose(words, facts, 0.0)
        assert not re.search(r"\b([Ss]he|[Hh]er) |她", text.split(names[1])[-1]), text


@LANGS
def test_filler_before_a_pronoun_names_nobody(lang: str) -> None:
    words = Words(random.Random(3), lang)
    for _ in range(300):
        text = filler.sentence(words, nameless=True)
        assert not re.search(r"said|thanked|card instead|感谢|没能到场|说。", text)


@LANGS
def test_a_list_stands_apart_from_the_next(lang: str) -> None:
    words = Words(random.Random(4), lang)
    for _ in range(300):
        talk = shelf(words, 12)
        assert not re.search("分别", talk.document)
        for user, _ in talk.turns[1:]:
            assert user.endswith(("?", "？", "。")) or user.startswith(("Name", "List"))


@LANGS
def test_of_all_who_fit_none_fits_another_value(lang: str) -> None:
    words = Words(random.Random(5), lang)
    for _ in range(300):
        named = [a for _, a in everyone(words, 6).turns]
        assert len(named) == len(set(named))


def test_a_name_runs_into_no_other_name() -> None:
    words = Words(random.Random(6), "en")
    facts = [
        told("en", n, "teacher", v) for n, v in (("Ann Lee", "Kay Fox"), ("Bo Hill", "Al Orr"))
    ]
    for _ in range(300):
        assert "Bo Hill Al Orr" not in prose(words, facts, 0.0)


def test_a_pronoun_is_in_its_case_and_an_answer_has_one_stop() -> None:
    words = Words(random.Random(7), "en")
    for _ in range(400):
        user = condensing(words).turns[0][0]
        assert not re.search(r"\b(call|ring|phone|married|hired) (she|he)\b", user)
        assert not any(a.endswith("..") for _, a in following(words, 6, "sentence").turns)
