"""Sampler: greedy, bad rows, barred ids, determinism, what is left untouched."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquila2_runtime.engine.noise import uniform
from aquila2_runtime.engine.sampler import Sampler
from aquila2_runtime.errors import InvalidSamplingParamsError
from tests.engine.sampler_oracle import row

VOCAB = 3_000
NAN, INF = float("nan"), float("inf")


def logits(rows: int = 1, vocab: int = VOCAB, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * 3


def ids(scores: torch.Tensor, *rows: object, decodable: int | None = None) -> list[int]:
    width = scores.shape[1]
    sampled = Sampler(width, decodable or width).sample(scores, rows)
    assert not sampled.failed
    return sampled.token_ids


@pytest.mark.parametrize("temperature", [0.0, 1e-45, 9e-7])
def test_temperatures_below_the_least_are_greedy(temperature: float) -> None:
    """S2: not a division by nearly zero."""
    scores = logits()
    assert ids(scores, row(temperature=temperature)) == scores.argmax(-1).tolist()


def test_the_least_sampled_temperature_is_finite_and_takes_the_likeliest() -> None:
    """S2: logits of 1e30 over 1e-6 do not become NaN either."""
    scores = logits(2)
    scores[1] *= 1e30
    assert ids(scores, row(temperature=1e-6), row(temperature=1e-6)) == scores.argmax(-1).tolist()


def test_of_equal_likeliest_ids_greedy_takes_the_lowest() -> None:
    scores = torch.zeros(1, 10)
    scores[0, [3, 7]] = 1.0
    assert ids(scores, row(temperature=0.0)) == [3]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_any_float_type_is_taken(dtype: torch.dtype) -> None:
    scores = logits().to(dtype)
    assert ids(scores, row(temperature=0.0)) == scores.argmax(-1).tolist()
    assert 0 <= ids(scores, row(top_p=0.9))[0] < VOCAB


@pytest.mark.parametrize("bad", [NAN, INF, "nothing"])
@pytest.mark.parametrize("fields", [{"temperature": 0.0}, {}, {"top_p": 0.5, "logprobs": 2}])
def test_a_bad_row_fails_alone(bad: float | str, fields: dict[str, object]) -> None:
    """S9: the others' ids are what they would be without it, and NaN is no token."""
    scores = logits(3)
    rows = [row(seed=index, **fields) for index in range(3)]
    expected = ids(scores, *rows)
    if bad == "nothing":
        scores[1] = -INF
    else:
        scores[1, 17] = bad
    sampled = Sampler(VOCAB, VOCAB).sample(scores, rows)
    assert set(sampled.failed) == {1} and "not finite" in sampled.failed[1]
    assert sampled.token_ids == [expected[0], -1, expected[2]]
    assert sampled.logprobs[1] is None


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_whose_every_id_is_barred_fails_alone(temperature: float) -> None:
    """S9: min_tokens may bar all of a tiny vocabulary."""
    barred = row(temperature=temperature, min_tokens=1, stop_token_ids=(0, 1, 2, 3))
    other = row(temperature=temperature)
    sampled = Sampler(4, 4).sample(torch.zeros(3, 4), [other, barred, other])
    assert set(sampled.failed) == {1} and "bar all" in sampled.failed[1]
    assert sampled.token_ids[0] == sampled.token_ids[2] >= 0


@pytest.mark.parametrize(
    "fields", [{"temperature": 0.0}, {"temperature": 2.0}, {"top_k": 5}, {"top_p": 1e-9}]
)
def test_ids_that_cannot_be_decoded_are_never_chosen(fields: dict[str, object]) -> None:
    """S10: not even when they are likeliest, biased, or NaN in an unused row of the head."""
    scores = logits()
    scores[0, 100:] += 50.0
    scores[0, 200] = NAN
    for seed in range(50):
        (token_id,) = ids(scores, row(seed, logit_bias={150: 100.0}, **fields), decodable=100)
        assert token_id < 100


def test_min_tokens_bars_stop_ids_until_it_is_reached() -> None:
    """S5: and not after."""
    scores = torch.zeros(1, 10)
    scores[0, 4] = 9.0
    scores[0, 2] = 5.0
    state = row(temperature=0.0, min_tokens=2, stop_token_ids=(4,))
    chosen = []
    for _ in range(4):
        chosen += ids(scores, state)
        state.append(chosen[-1])
    assert chosen == [2, 2, 4, 4]


def test_ignoring_the_end_does_not_bar_it() -> None:
    """S5: ignore_eos only means that nothing stops there."""
    scores = torch.zeros(1, 10)
    scores[0, 4] = 9.0
    assert ids(scores, row(temperature=0.0, ignore_eos=True, min_tokens=3)) == [4]


MIXED = [
    {"temperature": 0.0},
    {},
    {"top_k": 5},
    {"top_p": 0.7, "temperature": 1.7},
    {"min_p": 0.05},
    {"top_k": 2_000, "top_p": 0.9},
    {"repetition_penalty": 1.3, "presence_penalty": 0.5, "temperature": 0.0},
    {"logit_bias": {5: 4.0}, "logprobs": 3},
    {"top_p": 0.999, "temperature": 2.0, "frequency_penalty": 1.0},
]


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
def test_a_row_is_the_same_alone_and_at_any_place_of_any_batch(ties: bool) -> None:
    """S12: the id, its log-probability and the listed ones, bit for bit."""
    scores = logits(len(MIXED), seed=4)
    if ties:
        scores = scores.round()
    rows = [row(100 + i, prompt=[1, 2, 3], step=7, **fields) for i, fields in enumerate(MIXED)]
    sampler = Sampler(VOCAB, VOCAB)
    alone = [sampler.sample(scores[i : i + 1], [rows[i]]) for i in range(len(rows))]
    shuffle = random.Random(1)
    for size in (2, 5, len(rows)):
        for _ in range(3):
            places = shuffle.sample(range(len(rows)), size)
            together = sampler.sample(scores[places], [rows[i] for i in places])
            assert together.token_ids == [alone[i].token_ids[0] for i in places]
            assert together.logprobs == [alone[i].logprobs[0] for i in places]


def test_equal_seeds_repeat_and_steps_and_seeds_differ() -> None:
    """S12: the same seed and step give the same id; others give others."""
    scores = logits()
    assert ids(scores, row(5, step=3)) == ids(scores, row(5, step=3))
    assert len({ids(scores, row(5, step=step))[0] for step in range(40)}) > 10
    assert len({ids(scores, row(seed))[0] for seed in range(40)}) > 10


def test_no_global_random_state_is_touched_and_the_logits_are_not_changed() -> None:
    """S12: torch's, Python's and numpy's generators are where they were."""
    scores = logits(len(MIXED))
    kept = scores.clone()
    before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    ids(scores, *[row(i, prompt=[1], **fields) for i, fields in enumerate(MIXED)])
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1] == random.getstate()
    assert (before[2] == np.random.get_state()[1]).all()
    assert torch.equal(kept, scores)


def test_noise_follows_the_published_generator() -> None:
    """S12: seed 0 mixes to state 0, whose first outputs SplitMix64's authors' code gives."""
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [uniform(0, step) for step in range(3)] == [(x >> 11) * 2.0**-53 for x in published]


@pytest.mark.parametrize("seed", [-(2**63), -1, 2**63 - 1])
def test_extreme_seeds_give_noise_in_range(seed: int) -> None:
    """S12: every seed SamplingParams accepts."""
    assert all(0.0 <= uniform(seed, step) < 1.0 for step in range(100))


ACCEPTED = st.fixed_dictionaries(
    {
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1, exclude_min=True),
        "top_k": st.integers(-1, 2**31 - 1) | st.integers(-1, 40),
        "min_p": st.floats(0, 1),
        "repetition_penalty": st.floats(0, 2, exclude_min=True),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "logit_bias": st.none() | st.dictionaries(st.integers(0, 29), st.floats(-100, 100)),
        "min_tokens": st.integers(0, 3),
        "stop_token_ids": st.lists(st.integers(0, 20)),
        "logprobs": st.none() | st.integers(0, 20),
    }
)
SEEDS = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=400, deadline=None)
@given(
    fields=ACCEPTED,
    seed=SEEDS,
    scale=st.sampled_from([0.0, 1.0, 1e4, 1e38]),
    step=st.integers(0, 3),
)
def test_accepted_parameters_never_raise(
    fields: dict[str, object], seed: int, scale: float, step: int
) -> None:
    """S1, S3: any combination keeps at least one token, and the chosen one can be decoded."""
    scores = logits(1, 30) / 10 * scale
    state = row(seed, prompt=[0, 3, 29], **fields)
    for token_id in (3, 7, 7)[:step]:
        state.append(token_id)
    sampled = Sampler(30, 29).sample(scores, [state])
    assert not sampled.failed
    assert 0 <= sampled.token_ids[0] < 29
    barred = state.params.stop_ids if state.step < state.params.min_tokens else ()
    assert sampled.token_ids[0] not in barred


def test_unknown_ids_of_a_request_are_refused_at_submission(demo_runtime: object) -> None:
    """S6: -1 would wrap to the last token, and the first id past the vocabulary has no column."""
    from aquila2_runtime import Aquila2Runtime, SamplingParams

    assert isinstance(demo_runtime, Aquila2Runtime)
    past = demo_runtime.tokenizer.n_vocab
    for bad in ({"logit_bias": {past: 1.0}}, {"stop_token_ids": [past]}):
        with pytest.raises(InvalidSamplingParamsError) as caught:
            demo_runtime.complete("a", SamplingParams.from_kwargs(max_tokens=1, **bad))
        assert caught.value.parameter in bad
    for bad in ({"logit_bias": {-1: 1.0}}, {"stop_token_ids": [-1]}):
        with pytest.raises(InvalidSamplingParamsError):
            SamplingParams.from_kwargs(**bad)
