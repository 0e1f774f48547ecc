"""A single row's truncation and draw: what the operations on tensors give for it in a batch."""

from __future__ import annotations

import math
import random

import pytest
import torch

from aquila2_runtime import SamplingParams
from aquila2_runtime.engine.likeliest import sorted_top, stretch_maxima, top_of_row
from aquila2_runtime.engine.sample_row import SampleRow
from aquila2_runtime.engine.single_row import Limits, draw_one, in_order
from aquila2_runtime.engine.truncation import draw

WIDTHS = [1_500, 4_133, 100_008]


def _scores(width: int, seed: int, *, ties: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(1, width, generator=generator) * 3
    if ties:
        scores = scores.round()
    if seed % 3 == 0:
        scores[:, torch.randint(width, (seed % 90 + 1,), generator=generator)] += 9
    if seed % 4 == 0:
        scores[:, width // 2 :] = float("-inf")
    return scores


def _params(rng: random.Random) -> SamplingParams:
    return SamplingParams(
        temperature=rng.choice([0.05, 0.4, 0.8, 1.0, 1.7]),
        top_p=rng.choice([1.0, 0.999, 0.95, 0.9, 0.5, 0.01]),
        top_k=rng.choice([-1, -1, 1, 5, 40, 63, 64, 65, 300, 1_024]),
        min_p=rng.choice([0.0, 0.0, 0.02, 0.5, 1.0]),
        seed=rng.randrange(1 << 30),
    )


@pytest.mark.parametrize("ties", [False, True], ids=["no ties", "ties"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_row_alone_is_drawn_as_in_a_batch(width: int, ties: bool) -> None:
    rng = random.Random(width + ties)
    rows, scores = [], []
    for seed in range(60):
        params = _params(rng)
        row = SampleRow.create(params, params.seed or 0, ())
        row.step = rng.randrange(50)
        rows.append(row)
        scores.append(_scores(width, seed, ties=ties))
    alone = [draw(own, [row]).item() for own, row in zip(scores, rows, strict=True)]
    assert draw(torch.cat(scores), rows).tolist() == alone
    assert len(set(alone)) > 10


@pytest.mark.parametrize("ties", [False, True], ids=["no ties", "ties"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_likeliest_of_a_row_are_those_of_a_sort(width: int, ties: bool) -> None:
    for count in (64, 256, 1_024):
        scores = _scores(width, 5, ties=ties)
        values, ids = top_of_row(scores, count, stretch_maxima(scores))
        right, _ = sorted_top(scores, count)
        order = in_order(values.tolist(), ids)
        assert [values.tolist()[at] for at in order] == right[0].tolist()
        assert len(set(ids)) == count
        assert scores[0, ids].tolist() == values.tolist()


def test_ids_of_equal_scores_are_in_order() -> None:
    assert in_order([1.0, 2.0, 1.0, 2.0], [9, 4, 3, 1]) == [3, 1, 2, 0]


def test_what_may_be_missing_makes_a_draw_unsure() -> None:
    everything = Limits(None, 1.0, 0.0, 0.0, 0.0)
    assert draw_one([3.0, 2.0, 1.0], [4, 2, 1], everything, 0.0) == (0, False)
    # Nothing that equals the last candidate is kept.
    near = Limits(None, 0.6, 0.0, 7.0, 7.0)
    assert draw_one([3.0, 2.0, 1.0], [4, 2, 1], near, 0.99) == (1, True)
    # Another mass within the bounds would keep another number of ids.
    apart = Limits(None, 0.6, 0.0, 6.0, 7.0)
    assert draw_one([3.0, 2.0, 1.0], [4, 2, 1], apart, 0.99)[1] is False


def test_a_top_k_beyond_the_candidates_has_no_mass_yet() -> None:
    assert draw_one([3.0, 2.0, 1.0], [4, 2, 1], Limits(9, 0.5, 0.0, 0.0, 0.0), 0.0)[1] is False
    assert draw_one([3.0, 2.0, 1.0], [4, 2, 1], Limits(2, 0.5, 0.0, 0.0, 0.0), 0.0) == (0, True)


def test_the_draw_follows_the_weights() -> None:
    limits = Limits(None, 1.0, 0.3, 0.0, 0.0)
    drawn = [draw_one([3.0, 2.0, 1.0], [4, 2, 1], limits, (at + 0.5) / 600)[0] for at in range(600)]
    assert [drawn.count(place) for place in range(3)] == [400, 200, 0]
    assert math.isclose(sum(drawn) / 600, 1 / 3)
