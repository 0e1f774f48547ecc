"""Of two that are compared, the answer is the one with the larger or the smaller number."""

from __future__ import annotations

import random
import re

import pytest

from training.aquila2_demo.lexicon import Words
from training.aquila2_demo.ranking import BOTTOM, LEAST, MOST, TOP, ranking

LINE = {
    "en": re.compile(r"^(.*?)(?:: | has | - )(\d+)\D*$"),
    "zh": re.compile(r"^(.*?)(?:：|有|是)(\d+)\D*$"),
}
SMALL = {
    "en": re.compile(r"small|low|less|least|fewer"),
    "zh": re.compile(r"[小少]"),
}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_answer_has_the_number_that_is_asked_for(lang: str) -> None:
    words, pairs, first = Words(random.Random(2), lang), 0, 0
    for _ in range(300):
        talk = ranking(words, 256)
        found = [LINE[lang].match(line) for line in talk.document.split("\n")]
        if len(found) < 2 or not all(found):
            continue  # the lines are one sentence
        sizes = {m[1]: int(m[2]) for m in found if m}
        for i, (user, answer) in enumerate(talk.turns):
            asked = user.replace(talk.document, "").strip() if i == 0 else user
            named = [name for name in sizes if name in asked]
            plain = asked
            for name in named:
                plain = plain.replace(name, "")
            among = named or list(sizes)
            best = (min if SMALL[lang].search(plain) else max)(among, key=sizes.__getitem__)
            assert answer == best, talk
            pairs += len(named) == 2
            first += len(named) == 2 and answer == named[0]
    assert pairs > 800
    assert 0.4 < first / pairs < 0.6


def test_every_wording_says_which_end_it_asks_for() -> None:
    for lang in ("en", "zh"):
        for asks in (LEAST[lang], BOTTOM[lang]):
            assert all(SMALL[lang].search(ask) for ask in asks)
        for asks in (MOST[lang], TOP[lang]):
            assert not any(SMALL[lang].search(ask) for ask in asks)
