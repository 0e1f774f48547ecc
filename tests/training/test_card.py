"""Tests of the card: every measurement in its place, none left out in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.aquila2_demo import card as cards
from training.aquila2_demo.measures import abilities

TEXT = (Path(cards.__file__).parent / "card.md").read_text(encoding="utf-8")


def _scores() -> list[dict[str, object]]:
    names = [*cards.ROWS, *(f"needle, 256 tokens, depth {depth}" for depth in (0.0, 0.5, 1.0))]
    return [
        {
            "name": name, "lang": lang, "n": 10, "right": at / 100, "stopped": 1.0 - at / 1_000,
            "refused": 0.25, "tokens": 100 + at,
        }
        for at, (name, lang) in enumerate((name, lang) for name in names for lang in ("en", "zh"))
    ]  # fmt: skip


def test_every_measurement_stands_in_its_row() -> None:
    text = cards.card(TEXT, _scores(), 81.26, "  user: Hello\n\n")
    for score in _scores():
        if score["name"] in cards.ROWS:
            cells = f"{score['right']:.2f} | {score['tokens']}"
            shown = cards.ROWS[str(score["name"])]
            [line] = [each for each in text.splitlines() if each.startswith(f"| {shown} |")]
            assert cells in line
    assert "81.3 million tokens" in text
    assert "  user: Hello\n```" in text
    assert "$" not in text


def test_the_rows_are_measurements_that_are_made() -> None:
    made = {*abilities("en", 16384), "wordings never seen", "hand-written pages, plain"}
    made.add("hand-written pages, stuff prompt")
    assert set(cards.ROWS) == made


def test_a_missing_measurement_is_an_error() -> None:
    with pytest.raises(KeyError):
        cards.card(TEXT, _scores()[2:], 81.26, "")
