"""Questions for a subject have one answer in the document, or none."""

from __future__ import annotations

import random

import pytest

from training.aquila2_demo import replies
from training.aquila2_demo.document import Document, write
from training.aquila2_demo.facts import Fact, shorn
from training.aquila2_demo.lexicon import Words
from training.aquila2_demo.reading import reading
from training.aquila2_demo.relations import attributes
from training.aquila2_demo.subjects import Subject
from training.aquila2_demo.whose import asked_for, nobody, whose

LANGS = pytest.mark.parametrize("lang", ["en", "zh"])


def told(lang: str, name: str, key: str, **values: str) -> Fact:
    relation = next(a for a in attributes(lang) if a.key == key)
    who = Subject(relation.subject, name, "", "she" if lang == "en" else "她")
    return Fact(who, relation, tuple(values.items()))


@LANGS
def test_who_is_asked_for_is_named_and_not_in_the_question(lang: str) -> None:
    words, seen = Words(random.Random(3), lang), 0
    for _ in range(200):
        document = write(words, 8, rivals=words.chance(0.5))
        names = {f.subject.name for f in document.facts if not f.subject.anonymous}
        for text, answer in asked_for(words, document):
            seen += 1
            assert answer in names
            assert answer.lower() in document.text.lower()
            assert answer not in text
            assert "{" not in text
    assert seen > 500


@pytest.mark.parametrize(
    ("lang", "names", "starts"),
    [("en", ("Ann Lee", "Bo Hill"), "Who "), ("zh", ("李安", "王波"), "谁")],
)
def test_what_is_true_of_two_is_not_asked(lang: str, names: tuple[str, str], starts: str) -> None:
    one, two = (told(lang, name, "lives", v="Rome") for name in names)
    other = told(lang, names[1], "lives", v="Oslo")
    words = Words(random.Random(1), lang)
    same = Document(f"{names[0]} {names[1]}", (one, two))
    apart = Document(f"{names[0]} {names[1]}", (one, other))
    assert all(not asked_for(words, same) for _ in range(20))
    asked = [dict(asked_for(words, apart)) for _ in range(30)]
    texts = {text: answer for found in asked for text, answer in found.items()}
    assert texts
    for text, answer in texts.items():
        assert answer == (names[0] if "Rome" in text else names[1])
        assert text.startswith(starts) or f"的是{starts}" in text


@LANGS
def test_nobody_is_asked_for_by_what_is_told_of_someone(lang: str) -> None:
    words, seen = Words(random.Random(5), lang), 0
    for _ in range(150):
        document = write(words, 8)
        text = nobody(words, document)
        seen += bool(text)
        assert text not in dict(asked_for(words, document))
    assert seen > 75


def test_a_chinese_label_makes_no_question() -> None:
    words = Words(random.Random(2), "zh")
    for _ in range(200):
        for made in write(words, 6).facts:
            assert "：" not in whose(words, made)


@LANGS
def test_a_share_of_the_questions_asks_for_the_subject(lang: str) -> None:
    words = Words(random.Random(6), lang, held=True)
    for _ in range(60):
        talk = reading(words, 9, 3, 0.0, turned=1.0)
        for _, answer in talk.turns:
            assert answer != replies.UNKNOWN[lang]
            assert answer.lower() in talk.document.lower()
    refused = [reading(words, 9, 3, 1.0, turned=1.0) for _ in range(30)]
    assert {a for talk in refused for _, a in talk.turns} == {replies.UNKNOWN[lang]}


@pytest.mark.parametrize(
    ("lang", "question", "without"),
    [
        ("en", "Who is the director of {e}", "Who is the director"),
        ("en", "What is {e}'s address", "What is the address"),
        ("en", "To whom did {e} write", ""),
        ("zh", "{e}的馆长是谁", "馆长是谁"),
        ("zh", "{e}几点开门", "几点开门"),
        ("zh", "谁管理{e}", ""),
    ],
)
def test_a_question_loses_its_name_only_where_it_stays_one(
    lang: str, question: str, without: str
) -> None:
    assert shorn(question, lang) == without
