"""Tests of talks that sum up records: the sentence says what the record holds, nothing else."""

from __future__ import annotations

import random

import pytest

from training.aquila2_demo.facts import capital
from training.aquila2_demo.filler import SENTENCES
from training.aquila2_demo.lexicon import Words
from training.aquila2_demo.reading import reading
from training.aquila2_demo.relations import attributes
from training.aquila2_demo.summary import ASKS, HELD_ASKS, RELATIONS, known, record, summing_up

LANGS = pytest.mark.parametrize("lang", ["en", "zh"])


@LANGS
def test_a_summary_says_all_that_the_record_holds_in_its_order(lang: str) -> None:
    words, sizes = Words(random.Random(1), lang), set[int]()
    for _ in range(400):
        made = record(words)
        rest = made.sentence
        for part in (capital(made.name), *(value.rstrip(".") for _, value in made.lines)):
            _, found, rest = rest.partition(part)
            assert found, made
        assert all(value in made.text.replace("\\", "") for _, value in made.lines)
        assert made.sentence.count("。" if lang == "zh" else "..") == (lang == "zh")
        sizes.add(len(made.lines))
    assert sizes == {2, 3, 4}


@LANGS
def test_records_have_relations_of_one_slot(lang: str) -> None:
    for kind in RELATIONS[lang]:
        single = {a.key for a in attributes(lang) if a.subject == kind and len(a.slots) == 1}
        assert set(known(lang, kind)) <= single
        assert all(said.count("{v}") == 1 for _, said in known(lang, kind).values())
        labels = [label for shown, _ in known(lang, kind).values() for label in shown]
        assert len(set(labels)) == len(labels), "two lines of a record may have one label"


@LANGS
def test_what_asks_for_a_summary_in_the_measure_is_kept_out_of_training(lang: str) -> None:
    assert not set(ASKS[lang]) & set(HELD_ASKS[lang])
    words = Words(random.Random(2), lang)
    starts = tuple(text.split("{c}")[0] or "{c}" for text in HELD_ASKS[lang])
    for _ in range(100):
        assert not summing_up(words).turns[0][0].startswith(starts)
    asked = summing_up(words, HELD_ASKS[lang]).turns[0][0]
    assert any(asked.startswith(s) or asked.endswith(t) for s, t in _ends(HELD_ASKS[lang]))


def _ends(asks: list[str]) -> list[tuple[str, str]]:
    parts = [text.split("{c}") for text in asks]
    return [(before or "\0", after or "\0") for before, after in parts]


@LANGS
def test_a_sparse_document_is_mostly_filler(lang: str) -> None:
    openings = {t.split("{")[0] for t in SENTENCES[lang] if len(t.split("{")[0]) > 3}
    words = Words(random.Random(3), lang)
    few, much = (
        [reading(words, 8, 3, 0.0, "{c}\n{q}", filling=level).document for _ in range(20)]
        for level in (0.0, 5.0)
    )
    said = [sum(text.count(o) for text in texts for o in openings) for texts in (few, much)]
    assert said[1] > 10 * max(1, said[0])
    assert sum(map(len, much)) > 2.5 * sum(map(len, few))
