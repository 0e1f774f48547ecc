"""Sampler: exact probabilities, per-row parameters, nothing shared between rows."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquila2_runtime.engine.noise import uniform
from aquila2_runtime.engine.penalties import edit
from aquila2_runtime.engine.sampler import Sampler, SampleRow
from aquila2_runtime.engine.truncation import draw
from aquila2_runtime.sampling import SamplingParams


def _row(seed: int = 0, prompt: tuple[int, ...] = (), **params: object) -> SampleRow:
    return SampleRow.create(SamplingParams.from_kwargs(**params), seed, prompt)


def _kept(
    logits: torch.Tensor, temperature: float, top_k: int, top_p: float, min_p: float
) -> set[int]:
    """Brute force: which ids the filters leave, one after the other over sorted probabilities."""
    probabilities = (logits.double() / temperature).softmax(-1)
    order = sorted(range(len(logits)), key=lambda i: (-float(logits[i]), i))
    if top_k > 0:
        order = order[:top_k]
    total = sum(float(probabilities[i]) for i in order)
    kept, reached = [], 0.0
    for i in order:
        if kept and reached >= top_p * total and top_p < 1:
            break
        kept.append(i)
        reached += float(probabilities[i])
    likeliest = float(probabilities[order[0]])
    return {i for i in kept if float(probabilities[i]) >= min_p * likeliest} | {order[0]}


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 3, 40, 2_000]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    size=st.sampled_from([5, 50, 1_500]),
)
def test_only_what_the_filters_leave_is_ever_drawn(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float, size: int
) -> None:
    """R4, S3: the support equals a brute-force oracle, and at least one token stays."""
    logits = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 3
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    rows = [SampleRow.create(params, number, ()) for number in range(40)]
    drawn = set(draw(logits.repeat(40, 1), rows).tolist())
    assert drawn <= _kept(logits, temperature, top_k, top_p, min_p)


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 1.0},
        {"temperature": 0.7, "top_k": 4},
        {"temperature": 1.3, "top_p": 0.8},
        {"temperature": 1.0, "min_p": 0.2},
    ],
)
def test_draws_follow_the_exact_probabilities(params: dict[str, float]) -> None:
    """R4: chi-square of 100,000 draws with fixed seeds against exact probabilities."""
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -2.0, 1.5, 0.2])
    chosen = SamplingParams.from_kwargs(**params)
    kept = _kept(logits, chosen.temperature, chosen.top_k, chosen.top_p, chosen.min_p)
    exact = (logits.double() / chosen.temperature).softmax(-1)
    total = sum(float(exact[i]) for i in kept)
    count = 100_000
    rows = [SampleRow.create(chosen, number, ()) for number in range(count)]
    drawn = Counter(draw(logits.expand(count, -1), rows).tolist())
    assert set(drawn) == kept
    expected = {i: count * float(exact[i]) / total for i in kept}
    statistic = sum((drawn[i] - expected[i]) ** 2 / expected[i] for i in kept)
    # The 99.99 % quantile of chi-square with 7 degrees of freedom; fewer have smaller ones.
    assert statistic < 29.9


def test_noise_is_uniform_and_its_steps_are_independent() -> None:
    numbers = [uniform(seed, step) for seed in range(300) for step in range(300)]
    assert 0 <= min(numbers) <= max(numbers) < 1
    assert abs(sum(numbers) / len(numbers) - 0.5) < 0.005
    pairs = Counter(
        (
            int(uniform(seed, step) * 4),
            int(uniform(seed + 1, step) * 4),
            int(uniform(seed, step + 1) * 4),
        )
        for seed in range(200)
        for step in range(200)
    )
    assert len(pairs) == 64
    assert max(pairs.values()) < 1.25 * min(pairs.values())


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    """S12: the same row in any batch and place draws the same id; no global state is touched."""
    before = torch.random.get_rng_state()
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(30, 500, generator=generator)
    kinds: list[dict[str, float]] = [
        {"temperature": 0.0},
        {"temperature": 1.0},
        {"temperature": 0.8, "top_p": 0.9},
        {"temperature": 1.5, "top_k": 7, "repetition_penalty": 1.3},
    ]

    def rows() -> list[SampleRow]:
        return [_row(seed=n, prompt=(1, 2), **kinds[n % 4]) for n in range(30)]

    sampler = Sampler(500, 500)
    together = sampler.sample(logits, rows()).token_ids
    alone = [sampler.sample(logits[n : n + 1], [row]).token_ids[0] for n, row in enumerate(rows())]
    backwards = sampler.sample(logits.flip(0), rows()[::-1]).token_ids[::-1]
    assert together == alone == backwards
    assert torch.equal(before, torch.random.get_rng_state())


def test_temperatures_down_to_the_greedy_border_stay_finite() -> None:
    """S2: 1e-6 works, anything smaller is greedy."""
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    for temperature in (0.0, 1e-45, 1e-6, 1e-5):
        row = _row(seed=3, temperature=temperature)
        assert Sampler(3, 3).sample(logits, [row]).token_ids == [1]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_without_finite_logits_fails_alone(bad: float) -> None:
    """S9: NaN is never argmax-ed into a token, and the other rows go on."""
    logits = torch.tensor([[0.0, 1.0, 0.0], [0.0, bad, 5.0], [-math.inf] * 3])
    result = Sampler(3, 3).sample(logits, [_row(temperature=0.0) for _ in range(3)])
    assert result.token_ids == [1, -1, -1]
    assert set(result.failed) == {1, 2}


def test_ids_the_tokenizer_cannot_spell_are_never_chosen() -> None:
    """S10: padding rows of the head are masked, greedy and sampled."""
    logits = torch.tensor([[0.0, 1.0, 9.0, 9.0]])
    sampler = Sampler(4, 2)
    assert sampler.sample(logits, [_row(temperature=0.0)]).token_ids == [1]
    rows = [_row(seed=n, temperature=2.0) for n in range(200)]
    assert set(sampler.sample(logits.repeat(200, 1), rows).token_ids) == {0, 1}


def test_min_tokens_bars_every_id_that_would_end_the_answer() -> None:
    """S5: until then neither end of text nor a stop id is chosen."""
    row = _row(temperature=0.0, min_tokens=2, stop_token_ids=(1, 2))
    logits = torch.tensor([[0.0, 5.0, 4.0, 1.0]])
    sampler = Sampler(4, 4)
    made = []
    for _ in range(3):
        made += sampler.sample(logits, [row]).token_ids
        row.append(made[-1])
    assert made == [3, 3, 1]


def test_barring_everything_fails_the_request_with_a_reason() -> None:
    row = _row(temperature=0.0, min_tokens=1, stop_token_ids=(0, 1))
    result = Sampler(2, 2).sample(torch.zeros(1, 2), [row])
    assert result.token_ids == [-1]
    assert "min_tokens" in result.failed[0]


def test_penalties_follow_their_formulas() -> None:
    """S13: repetition over prompt and answer; presence and frequency over the answer."""
    row = _row(
        prompt=(0,),
        temperature=0.0,
        repetition_penalty=2.0,
        presence_penalty=0.5,
        frequency_penalty=0.25,
        logit_bias={3: 1.5},
        logprobs=4,
    )
    for token_id in (1, 1, 2):
        row.append(token_id)
    logits = torch.tensor([[4.0, 6.0, -2.0, 1.0]])
    expected = torch.tensor([4.0 / 2, 6.0 / 2 - 0.5 - 0.5, -2.0 * 2 - 0.5 - 0.25, 1.0 + 1.5])
    edited = logits.clone()
    edit(edited, [row])
    assert torch.allclose(edited[0], expected)
    result = Sampler(4, 4).sample(logits, [row])
    assert result.token_ids == [int(expected.argmax())]
    # R5: log-probabilities are those of the raw logits, before any of this.
    entry = result.logprobs[0]
    assert entry is not None
    raw = logits[0].log_softmax(-1)
    assert entry.logprob == pytest.approx(float(raw[result.token_ids[0]]))
    assert [token_id for token_id, _ in entry.top] == [1, 0, 3, 2]
    assert sum(math.exp(logprob) for _, logprob in entry.top) == pytest.approx(1.0)
