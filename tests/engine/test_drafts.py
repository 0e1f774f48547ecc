"""Drafter: guesses out of a request's own text; more of them when right, a pause when wrong."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from aquila2_runtime.engine.drafts import MAX_DRAFTS, Drafter


def test_what_followed_the_longest_match_is_proposed() -> None:
    # "5 6" occurs twice; only the first time after a 4, as now.
    assert Drafter().propose([4, 5, 6, 7, 0, 3, 5, 6, 8, 0, 4, 5, 6], 1) == [7]


def test_of_equally_long_matches_the_latest_is_taken() -> None:
    assert Drafter().propose([1, 5, 6, 7, 2, 5, 6, 8, 3, 5, 6], 2) == [8, 3]


def test_a_match_that_overlaps_the_end_repeats_its_period() -> None:
    assert Drafter().propose([9, 1, 2, 1, 2, 1, 2], 4) == [1, 2, 1, 2]


def test_text_that_never_occurred_before_has_no_drafts() -> None:
    assert Drafter().propose(list(range(50)), 8) == []
    assert Drafter().propose([1], 8) == []
    assert Drafter().propose([], 8) == []


def test_no_more_is_proposed_than_can_be_used() -> None:
    ids = [1, 2, 3, 4] * 5
    assert Drafter().propose(ids, 0) == []
    assert Drafter().propose(ids, -1) == []
    assert len(Drafter().propose(ids, 3)) == 3


def _drafted(text: list[int], start: int) -> list[int]:
    """Let a drafter follow a known text from a place; the number of drafts of each step."""
    drafter, at, counts = Drafter(), start, []
    while at < len(text):
        drafts = drafter.propose(text[:at], len(text) - at - 1)
        counts.append(len(drafts))
        right = 0
        while right < len(drafts) and drafts[right] == text[at + right]:
            right += 1
        at += right + 1
    return counts


def test_a_text_that_repeats_itself_takes_a_fraction_of_the_steps() -> None:
    sentence = random.Random(0).sample(range(1_000), 40)
    counts = _drafted(sentence * 6, 60)
    assert max(counts) == MAX_DRAFTS
    assert len(counts) < 180 / (MAX_DRAFTS - 1)


def test_guesses_that_keep_failing_are_given_up() -> None:
    # The same pair of ids, each time followed by another: every draft is wrong.
    text = [token for follower in range(300) for token in (1, 2, 10 + follower)]
    counts = _drafted(text, 30)
    first, last = counts[: len(counts) // 2], counts[len(counts) // 2 :]
    assert sum(first) > 0
    assert sum(last) < len(last) / 20


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 10))
def test_growing_and_whole_texts_give_the_same_first_draft(ids: list[int], most: int) -> None:
    grown = Drafter()
    for end in range(len(ids)):
        grown.propose(ids[:end], 0)
    assert grown.propose(ids, most)[:1] == Drafter().propose(ids, most)[:1]
