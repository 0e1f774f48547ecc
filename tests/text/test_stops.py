"""Stop strings against a search of the whole text, however it is cut."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquila2_runtime.detokenizer import IncrementalDetokenizer
from aquila2_runtime.errors import InvalidSamplingParamsError
from aquila2_runtime.stops import StopChecker
from aquila2_runtime.tokenizer import Aquila2Tokenizer

FEW = st.text(alphabet="ab。", max_size=30)
STOPS = st.lists(st.text(alphabet="ab。", min_size=1, max_size=5), max_size=5)
CUTS = st.lists(st.integers(0, 30), max_size=8)


def cut(text: str, places: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(place for place in places if place < len(text))})
    return [text[a:b] for a, b in pairwise(edges)]


def searched(
    text: str, stops: list[str], include: bool, first_end: int = 0
) -> tuple[str, str | None]:
    """What is shown, by looking at every end in turn."""
    for end in range(first_end + 1, len(text) + 1):
        for stop in stops:
            if text[:end].endswith(stop):
                return text[: end if include else end - len(stop)], stop
    return text, None


def held_back(text: str, stops: list[str]) -> int:
    """The longest end of the text that is a proper prefix of a stop string."""
    lengths = (size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size]))
    return max(lengths, default=0)


@given(text=FEW, stops=STOPS, places=CUTS, include=st.booleans())
def test_the_text_ends_where_a_search_would_end_it(
    text: str, stops: list[str], places: list[int], include: bool
) -> None:
    """D1, D3, D6, D7: the earliest end, then list order; exactly what may grow is held back."""
    checker = StopChecker(stops, include=include)
    expected, stop = searched(text, stops, include)
    seen = shown = ""
    for piece in cut(text, places):
        seen += piece
        delta, matched = checker.feed(piece)
        shown += delta
        if matched is not None:
            break
        assert len(shown) == len(seen) - held_back(seen, stops)
    else:
        shown += checker.flush()
        matched = None
    assert (shown, matched) == (expected, stop)


@given(text=FEW, stops=STOPS, places=CUTS, start=st.integers(0, 30), include=st.booleans())
def test_stops_that_end_too_early_are_text(
    text: str, stops: list[str], places: list[int], start: int, include: bool
) -> None:
    """S5, D6: below min_tokens a stop string passes; one that only began there still counts."""
    start = min(start, len(text))
    checker = StopChecker(stops, include=include)
    shown, matched = "", None
    done = 0
    for piece in cut(text, [*places, start]):
        delta, matched = checker.feed(piece, allow_stop=done >= start)
        done += len(piece)
        shown += delta
        if matched is not None:
            break
        assert len(shown) == done - held_back(text[:done], stops)
    else:
        shown += checker.flush()
    assert (shown, matched) == searched(text, stops, include, start)


@pytest.mark.parametrize(
    ("stops", "pieces", "shown", "matched"),
    [
        (["###"], ["a#", "#", "#b"], "a", "###"),
        (["###"], ["a##", "b"], "a##b", None),
        (["。\n"], ["你好。", "\n再见"], "你好", "。\n"),
        (["ab", "abc"], ["abc"], "", "ab"),
        (["abc", "bc"], ["xabc"], "x", "abc"),
        (["bc", "abc"], ["xabc"], "xa", "bc"),
        (["x"], ["x"], "", "x"),
        (["ab", "ab"], ["ab"], "", "ab"),
        (["🙂"], ["a🙂b"], "a", "🙂"),
        ([], ["a", "b"], "ab", None),
        (["ab"], ["a"], "a", None),
    ],
)
def test_known_cases(stops: list[str], pieces: list[str], shown: str, matched: str | None) -> None:
    """D6, D7: across borders, a prefix of another, at the start, the whole text, in Chinese."""
    checker = StopChecker(stops)
    found = ""
    last = None
    for piece in pieces:
        delta, last = checker.feed(piece)
        found += delta
        if last is not None:
            break
    assert (found + checker.flush(), last) == (shown, matched)


def test_nothing_follows_a_stop_string() -> None:
    """D6: whatever is fed afterwards."""
    checker = StopChecker(["."], include=True)
    assert checker.feed("a.b") == ("a.", ".")
    assert checker.feed("c") == ("", ".")
    assert checker.flush() == ""


def test_an_empty_stop_string_is_refused() -> None:
    """S7: it would end every text."""
    with pytest.raises(InvalidSamplingParamsError, match="empty"):
        StopChecker(["a", ""])


@given(data=st.data(), include=st.booleans())
def test_streamed_text_is_the_whole_text_cut_once(
    data: st.DataObject, include: bool, tokenizer: Aquila2Tokenizer
) -> None:
    """D1: ids, detokenizer and stop strings together."""
    ids = data.draw(st.lists(st.integers(0, tokenizer.n_vocab - 1), max_size=40))
    whole = tokenizer.decode(ids)
    stops = data.draw(
        st.lists(st.sampled_from([*whole, whole[3:6], "###"]).filter(bool), max_size=3)
    )
    stream, checker = IncrementalDetokenizer(tokenizer), StopChecker(stops, include=include)
    shown, matched = "", None
    for piece in (*map(stream.add, ids), None):
        delta, matched = checker.feed(stream.finish() if piece is None else piece)
        shown += delta
        if matched is not None:
            break
    assert (shown + checker.flush(), matched) == searched(whole, stops, include)


def test_the_worst_stop_strings_are_quick() -> None:
    """D10: long, alike, and never complete; the cost does not grow with them."""
    stops = ["a" * 900 + "b" * (index + 1) for index in range(16)]
    checker = StopChecker(stops)
    start = time.perf_counter()
    shown = "".join(checker.feed("aaaaa")[0] for _ in range(20_000)) + checker.flush()
    assert shown == "a" * 100_000
    assert time.perf_counter() - start < 20
