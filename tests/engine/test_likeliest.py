"""Likeliest: what searches over all ids find, in any row, at any width."""

from __future__ import annotations

import pytest
import torch

from aquila2_runtime.engine.likeliest import highest, sorted_top, stretch_maxima

WIDTHS = [130, 5_000, 16_384, 20_001, 100_008]


def _scores(width: int, *, ties: bool) -> torch.Tensor:
    rows = 70_000 // width + 1
    scores = torch.randn(rows, width, generator=torch.Generator().manual_seed(width))
    return scores.round() if ties else scores


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("ties", [False, True])
def test_the_highest_is_that_of_all_and_has_the_lowest_id(width: int, ties: bool) -> None:
    scores = _scores(width, ties=ties)
    scores[0, -1] = 50.0  # the last of a stretch that may be short
    maxima = stretch_maxima(scores)
    assert maxima is not None
    values, ids = highest(scores, maxima)
    assert torch.equal(values, scores.amax(dim=-1))
    for row, found in zip(scores, ids.tolist(), strict=True):
        assert found == int((row == row.max()).nonzero()[0, 0])


@pytest.mark.parametrize("place", [0, 63, 64, 9_999, 19_999, 20_000])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_shows_wherever_it_is(place: int, value: float) -> None:
    scores = _scores(20_001, ties=False)
    assert stretch_maxima(scores) is not None
    scores[1, place] = value
    found = highest(scores, stretch_maxima(scores))[0].isfinite()
    assert not found[1]
    assert found[0]


def test_few_numbers_are_searched_as_they_are() -> None:
    scores = torch.tensor([[1.0, 3.0, 3.0], [5.0, 2.0, 1.0]])
    assert stretch_maxima(scores) is None
    assert highest(scores, None)[1].tolist() == [1, 0]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("count", [1, 64, 120])
def test_the_top_is_that_of_a_whole_sort(width: int, count: int) -> None:
    scores = _scores(width, ties=False)
    values, ids = scores.sort(dim=-1, descending=True, stable=True)
    for maxima in (None, stretch_maxima(scores)):
        found, found_ids = sorted_top(scores, count, maxima)
        assert torch.equal(found, values[:, :count])
        assert torch.equal(found_ids, ids[:, :count])


@pytest.mark.parametrize("width", WIDTHS)
def test_of_equal_ones_above_the_last_value_all_are_listed_by_id(width: int) -> None:
    scores = _scores(width, ties=True)
    values, ids = scores.sort(dim=-1, descending=True, stable=True)
    found, found_ids = sorted_top(scores, 64, stretch_maxima(scores))
    assert torch.equal(found, values[:, :64])
    above = found > found[:, -1:]
    assert torch.equal(found_ids[above], ids[:, :64][above])
