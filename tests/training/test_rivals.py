"""Tests of talks in which much is alike: who is meant, which tool is meant, which source."""

from __future__ import annotations

import json
import random
import re

import pytest

from training.aquila2_demo import frames, prompts, replies, tooltalk
from training.aquila2_demo.citing import citing
from training.aquila2_demo.document import Document, as_written, write
from training.aquila2_demo.facts import fact, fill
from training.aquila2_demo.lexicon import Words
from training.aquila2_demo.reading import missing, questions
from training.aquila2_demo.relation_tools import look_ups
from training.aquila2_demo.relations import attributes, is_held
from training.aquila2_demo.subjects import Subject, alike, subject
from training.aquila2_demo.tool_results import result

LANGS = pytest.mark.parametrize("lang", ["en", "zh"])


@LANGS
def test_rivals_are_of_one_kind_and_share_most_relations(lang: str) -> None:
    words = Words(random.Random(1), lang)
    for _ in range(60):
        facts = write(words, 14, rivals=True).facts
        assert len({f.subject.kind for f in facts}) == 1
        per_subject = len(facts) / len({f.subject.name for f in facts})
        assert len({f.attribute.key for f in facts}) <= per_subject * 3


@LANGS
def test_what_is_told_of_another_alone_is_not_told_of_who_is_asked_about(lang: str) -> None:
    words = Words(random.Random(2), lang)
    for _ in range(200):
        document = write(words, 12, rivals=True)
        assert missing(words, document, near=1.0) not in dict(questions(words, document))


def _about(words: Words, *subjects: Subject) -> Document:
    relations = [a for a in attributes(words.lang) if a.subject == subjects[0].kind]
    return Document("", tuple(fact(words, who, relations[0]) for who in subjects))


def test_a_noun_that_fits_two_subjects_names_neither() -> None:
    words = Words(random.Random(3), "zh")
    first = Subject("event", "取阶展览", "这个展览", "它")
    second, other = (
        Subject("event", name, "该" + name[2:], "它") for name in ("广场展览", "江河考试")
    )
    assert not _about(words, first, second).alone(second)
    assert _about(words, first, other).alone(other)
    firm, bank = (
        Subject("org", "取阶集团", "该公司", "它"),
        Subject("org", "江河银行", "该机构", "它"),
    )
    assert not _about(words, firm, bank).alone(bank)
    assert _about(words, bank).alone(bank)


@LANGS
def test_names_alike_share_a_part_and_are_none_of_those_kept_out(lang: str) -> None:
    words = Words(random.Random(4), lang)
    for _ in range(200):
        who = subject(words, "person")
        assert words.ours(alike(words, who).name)


@LANGS
def test_a_turn_with_several_requests_has_a_call_for_each(lang: str) -> None:
    words, sizes = Words(random.Random(5), lang), set[int]()
    for _ in range(60):
        talk = tooltalk.many_at_once(words, 5, 3)
        for user, answer in talk.turns:
            calls = [json.loads(c[11:-12]) for c in answer.split("\n") if c[:11] == "<tool_call>"]
            sizes.add(len(calls))
            for call in calls:
                assert f"- {call['name']}(" in talk.system
                for value in call["arguments"].values():
                    assert isinstance(value, bool) or str(value).lower() in user.lower()
    assert {1, 2, 3} <= sizes


@LANGS
def test_tools_offered_together_differ_in_name_and_sort(lang: str) -> None:
    words, siblings = Words(random.Random(6), lang), 0
    for _ in range(200):
        made = tooltalk.rivals(words, 6)
        assert made and len({m.tool.name for m in made}) == len(made)
        assert len({(m.family.verbs + m.family.tail, m.noun) for m in made}) == len(made)
        siblings += len(made) > 3 and len({m.family.verbs for m in made}) == 1
    assert siblings > 30


@LANGS
def test_look_ups_are_asked_for_in_wordings_of_training(lang: str) -> None:
    held = {t for a in attributes(lang) for _, asks in a.asks for t in asks if is_held(t)}
    asked = {family.asks[lang] for _, family in look_ups(lang)}
    wordings = {t.replace("{0}", "{e}") for a in asked for t in re.split(r"[?？]\|?", a)}
    assert len(wordings) > 100
    assert not held & wordings


@LANGS
def test_frames_hold_document_and_question_and_are_no_prompt_kept_out(lang: str) -> None:
    words = Words(random.Random(7), lang)
    made = [frames.frame(words) for _ in range(500)]
    assert all(f.count("{c}") == f.count("{q}") == 1 for f in made)
    assert len(set(made)) > 400
    assert not set(made) & set(prompts.HELD_OUT[lang])


@LANGS
def test_numbered_documents_are_cited_only_where_the_prompt_asks_for_it(lang: str) -> None:
    words = Words(random.Random(8), lang)
    for plain in (0.0, 1.0):
        answers = [a for _ in range(40) for _, a in citing(words, 9, 3, plain=plain).turns]
        answers = [a for a in answers if a not in replies.UNKNOWN.values()]
        assert all(bool(re.search(r" \[\d\]$", a)) != bool(plain) for a in answers)


def test_an_answer_is_written_as_the_text_has_it() -> None:
    assert as_written("red apples", "Red apples are sold here.") == "Red apples"
    assert as_written("red apples", "Red apples are red apples.") == "red apples"
    assert as_written("the red hall", "The red hall is open.") == "the red hall"


def test_an_article_fits_the_value_behind_it() -> None:
    assert fill("Tom keeps a {v}", "v", "owl") == "Tom keeps an owl"
    assert fill("a {v} of data {v}", "v", "cat") == "a cat of data cat"
    assert fill("the data {v}", "v", "owl") == "the data owl"


@LANGS
def test_a_sentence_from_a_tool_is_passed_on_as_it_is(lang: str) -> None:
    words, sentences = Words(random.Random(9), lang), 0
    for _ in range(400):
        content, answer = result(words, tooltalk.offer(words, 1)[0], 0.3)
        if content.endswith((".", "。")) and len(content) > 7:
            sentences += 1
            assert answer == content
    assert sentences > 10
