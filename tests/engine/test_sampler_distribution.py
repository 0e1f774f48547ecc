"""Truncation and drawing against brute force: supports, frequencies, equal logits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquila2_runtime.engine import filters, truncation
from aquila2_runtime.engine.noise import uniform
from aquila2_runtime.engine.sampler import Sampler
from aquila2_runtime.sampling import SamplingParams
from tests.engine.sampler_oracle import probabilities, row


def draws(scores: torch.Tensor, count: int, **fields: object) -> torch.Tensor:
    """Ids of ``count`` steps of one seed, many rows at a time."""
    width = scores.shape[0]
    sampler, chosen = Sampler(width, width), []
    for start in range(0, count, 5_000):
        size = min(5_000, count - start)
        rows = [row(11, step=start + i, **fields) for i in range(size)]
        chosen += sampler.sample(scores.expand(size, -1), rows).token_ids
    return torch.tensor(chosen)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0.6},
        {"top_k": 12},
        {"top_p": 0.8, "temperature": 1.4},
        {"min_p": 0.1},
        {"top_k": 30, "top_p": 0.9, "min_p": 0.02, "temperature": 1.2},
    ],
    ids=str,
)
def test_a_hundred_thousand_draws_have_the_exact_frequencies(fields: dict[str, object]) -> None:
    """R4: chi-square below its 99.99th percentile, and nothing outside the support."""
    scores = torch.randn(50, generator=torch.Generator().manual_seed(3)) * 1.5
    expected = probabilities(scores.tolist(), SamplingParams.from_kwargs(**fields))
    count = 100_000
    seen = torch.bincount(draws(scores, count, **fields), minlength=50).tolist()
    assert all(times == 0 for times, p in zip(seen, expected, strict=True) if p == 0)
    # Ids expected fewer than five times are judged together, as the test requires.
    pairs = [(times, p * count) for times, p in zip(seen, expected, strict=True) if p > 0]
    common = [pair for pair in pairs if pair[1] >= 5]
    rare = [pair for pair in pairs if pair[1] < 5]
    if rare:
        common.append((sum(pair[0] for pair in rare), sum(pair[1] for pair in rare)))
    statistic = sum((times - mean) ** 2 / mean for times, mean in common)
    freedom = len(common) - 1
    # Wilson and Hilferty's approximation of the percentile; 3.719 is the normal one.
    limit = freedom * (1 - 2 / (9 * freedom) + 3.719 * math.sqrt(2 / (9 * freedom))) ** 3
    assert statistic < limit


def support(scores: torch.Tensor, fields: dict[str, object]) -> set[int]:
    """Every id that some noise draws, found exactly: one noise in the middle of each share."""
    width = scores.shape[0]
    expected = probabilities(scores.tolist(), SamplingParams.from_kwargs(**fields))
    kept = sorted((i for i in range(width) if expected[i]), key=lambda i: (-float(scores[i]), i))
    params = SamplingParams.from_kwargs(**fields)
    plain = not 0 < params.top_k < width and params.min_p == 0.0 and params.top_p == 1.0
    places = sorted(kept) if plain else kept
    noises, below = [0.0, 1.0 - 2.0**-53], 0.0
    for place in places:
        noises.append(min(below + expected[place] / 2, 1.0 - 2.0**-53))
        below += expected[place]
    rows = [_Fixed.of(noise, fields) for noise in noises]
    return set(truncation.draw(scores.expand(len(rows), -1), rows).tolist())


class _Fixed:
    """A row whose noise is given rather than drawn."""

    def __init__(self, params: SamplingParams, noise: float) -> None:
        self.params, self.noise = params, noise

    @classmethod
    def of(cls, noise: float, fields: dict[str, object]) -> _Fixed:
        return cls(SamplingParams.from_kwargs(**fields), noise)


FILTERS = st.fixed_dictionaries(
    {
        "temperature": st.floats(0.3, 2),
        "top_k": st.integers(-1, 80),
        "top_p": st.just(1.0) | st.floats(0.01, 0.99),
        "min_p": st.just(0.0) | st.floats(0.001, 1),
    }
)


@pytest.mark.parametrize("prefilter", [8, 1_024], ids=["narrow", "whole"])
@settings(max_examples=120, deadline=None)
@given(fields=FILTERS, seed=st.integers(0, 10**6), ties=st.booleans())
def test_supports_equal_brute_force(
    prefilter: int, fields: dict[str, object], seed: int, ties: bool
) -> None:
    """R4: with a prefilter far smaller than the vocabulary and with none, with ties and without."""
    scores = torch.randn(60, generator=torch.Generator().manual_seed(seed)) * 2
    if ties:
        scores = scores.round()
    expected = probabilities(scores.tolist(), SamplingParams.from_kwargs(**fields))
    wanted = {place for place, p in enumerate(expected) if p > 0}
    with pytest.MonkeyPatch.context() as patch:
        for module in (filters, truncation):
            patch.setattr(module, "PREFILTER", prefilter)
        found = support(scores, fields)
    if found != wanted:
        # Only an id on the very border, by fp32's rounding of the temperature, may differ.
        nudged = [
            probabilities(
                scores.tolist(),
                SamplingParams.from_kwargs(
                    **{
                        **fields,
                        "top_p": min(1.0, float(fields["top_p"]) * change),
                        "min_p": min(1.0, float(fields["min_p"]) / change),
                    }
                ),
            )
            for change in (1 - 1e-9, 1 + 1e-9)
        ]
        fewest, most = ({i for i, p in enumerate(one) if p > 0} for one in nudged)
        assert fewest <= found <= most


def test_top_k_past_the_first_candidates_with_top_p_keeps_what_brute_force_keeps() -> None:
    """R4: a top-k between the first look and the second is a share of all that it left, too."""
    scores = torch.randn(4_000, generator=torch.Generator().manual_seed(0)) * 3
    fields: dict[str, object] = {"top_k": filters.PREFILTER // 2, "top_p": 0.9}
    expected = probabilities(scores.tolist(), SamplingParams.from_kwargs(**fields))
    assert sum(p > 0 for p in expected) < filters.PREFILTER // 4
    assert support(scores, fields) == {place for place, p in enumerate(expected) if p > 0}


def test_top_k_past_the_prefilter_with_top_p_keeps_what_brute_force_keeps() -> None:
    """R4: top-p is a share of all that top-k left, not of the prefilter's candidates."""
    scores = torch.randn(4_000, generator=torch.Generator().manual_seed(0))
    fields: dict[str, object] = {"top_k": 3_000, "top_p": 0.8}
    expected = probabilities(scores.tolist(), SamplingParams.from_kwargs(**fields))
    assert sum(p > 0 for p in expected) > filters.PREFILTER
    assert support(scores, fields) == {place for place, p in enumerate(expected) if p > 0}


@pytest.mark.parametrize("fields", [{"top_k": 3}, {"top_p": 0.25}, {"top_k": 1_024}], ids=str)
def test_among_equal_logits_the_lowest_ids_are_kept(fields: dict[str, object]) -> None:
    """R4: also where the prefilter's border runs through the equal ones."""
    scores = torch.zeros(1, 4_000)
    count = fields.get("top_k", 1_000)
    chosen = {
        Sampler(4_000, 4_000).sample(scores, [row(seed, **fields)]).token_ids[0]
        for seed in range(40)
    }
    assert max(chosen) < count


@pytest.mark.parametrize(
    "fields",
    [{"top_k": 1}, {"top_p": 1e-300}, {"min_p": 1.0}, {"top_p": 1e-9, "top_k": 9}],
    ids=str,
)
def test_the_tightest_filters_keep_the_likeliest(fields: dict[str, object]) -> None:
    """S3: one token, never none."""
    scores = torch.randn(1, 2_000, generator=torch.Generator().manual_seed(1))
    for seed in range(20):
        sampled = Sampler(2_000, 2_000).sample(scores, [row(seed, temperature=2.0, **fields)])
        assert sampled.token_ids == scores.argmax(-1).tolist()


@pytest.mark.parametrize("top_k", [0, -1, 500, 501, 2**31 - 1])
def test_a_top_k_that_is_off_or_exceeds_the_vocabulary_changes_nothing(top_k: int) -> None:
    """S3: 0 and -1 are off; more than there are is all there are."""
    scores = torch.randn(1, 500, generator=torch.Generator().manual_seed(1))
    sampler = Sampler(500, 500)
    for seed in range(30):
        plain = sampler.sample(scores, [row(seed, top_p=1.0)])
        assert sampler.sample(scores, [row(seed, top_k=top_k)]).token_ids == plain.token_ids


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0 - 2.0**-53])
@pytest.mark.parametrize("fields", [{"top_p": 1.0}, {"top_p": 0.9}, {"top_k": 40}], ids=str)
def test_no_token_of_probability_zero_is_ever_drawn(
    noise: float, fields: dict[str, object]
) -> None:
    """R4: not first, not last, not between, at either end of the noise."""
    scores = torch.full((1, 3_000), float("-inf"))
    scores[0, [7, 1_500, 2_990]] = torch.tensor([0.0, 1.0, -1.0])
    drawn = truncation.draw(scores, [_Fixed.of(noise, fields)])
    assert drawn.item() in {7, 1_500, 2_990}


def test_noise_is_uniform_over_seeds_and_over_steps() -> None:
    """R4: a hundred bins of a hundred thousand numbers, along either axis."""
    for numbers in (
        [uniform(5, step) for step in range(100_000)],
        [uniform(seed, 0) for seed in range(100_000)],
    ):
        bins = torch.histc(torch.tensor(numbers, dtype=torch.float64), 100, 0.0, 1.0)
        assert float(((bins - 1_000) ** 2 / 1_000).sum()) < 162  # 99.99th percentile, 99 degrees
