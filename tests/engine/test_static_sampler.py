"""Sampling inside a static step gives the plain sampler's ids, or hands the row back."""

from __future__ import annotations

import random

import pytest
import torch

from aquila2_runtime.engine.device_rows import DeviceRows, Entry
from aquila2_runtime.engine.filters import PREFILTER
from aquila2_runtime.engine.noise import first_state, uniform
from aquila2_runtime.engine.sample_row import SampleRow
from aquila2_runtime.engine.sampler import Sampler
from aquila2_runtime.engine.static_sampler import REDO, sample_static, serves, signed, uniforms
from aquila2_runtime.sampling import SamplingParams
from tests.engine.kernels import DEVICE

CASES = (
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0.3, top_k=5),
    SamplingParams(temperature=2.0, top_k=1),
    SamplingParams(temperature=0.8, top_p=0.9),
    SamplingParams(temperature=1.5, top_p=0.2, top_k=40, min_p=0.01),
    SamplingParams(temperature=0.7, min_p=0.1),
    SamplingParams(temperature=1.0, top_p=1e-9),
)


def rows_of(params: list[SamplingParams], seed: int) -> list[SampleRow]:
    draws = random.Random(seed)
    rows = []
    for entry in params:
        row = SampleRow.create(entry, draws.randint(-(2**63), 2**63 - 1), ())
        row.step = draws.choice((0, 1, 2, 1_000, 10**6))
        rows.append(row)
    return rows


def static_ids(logits: torch.Tensor, rows: list[SampleRow], *, drawn: bool = True) -> list[int]:
    width = logits.shape[1]
    held = DeviceRows(places=len(rows), width=1, n_ids=width, device=logits.device)
    held.enter([Entry(place, 0, 0, row, (1,)) for place, row in enumerate(rows)])
    places = torch.arange(len(rows), device=logits.device)
    return sample_static(logits, held.sampling(places), drawn=drawn).tolist()


def test_the_devices_noise_is_the_hosts_bit_for_bit() -> None:
    draws = random.Random(1)
    pairs = [(0, 0), (-1, 0), (2**63 - 1, 10**6), (-(2**63), 3)]
    pairs += [(draws.randint(-(2**63), 2**63 - 1), draws.randint(0, 10**6)) for _ in range(500)]
    states = torch.tensor([signed(first_state(seed)) for seed, _ in pairs], device=DEVICE)
    steps = torch.tensor([step for _, step in pairs], device=DEVICE)
    assert uniforms(states, steps).tolist() == [uniform(seed, step) for seed, step in pairs]


@pytest.mark.parametrize("width", [320, PREFILTER, 5_000])
def test_ids_equal_the_plain_samplers(width: int) -> None:
    """Every kind of row in one batch, over peaked logits; ties among them."""
    generator = torch.Generator().manual_seed(width)
    params = list(CASES) * 8
    for seed in range(4):
        logits = torch.randn(len(params), width, generator=generator) * 4
        logits[::3] = logits[::3].round()
        rows = rows_of(params, seed)
        assert all(serves(row, width) for row in rows)
        right = Sampler(width, width).sample(logits.clone(), rows).token_ids
        found = static_ids(logits.to(DEVICE), rows)
        different = [
            at for at, (one, other) in enumerate(zip(found, right, strict=True))
            if one not in (other, REDO)
        ]  # fmt: skip
        assert different == []
        # Flat rows may reach past the prefilter; with so small a vocabulary none can.
        assert found.count(REDO) == 0 or width > PREFILTER
        assert found.count(REDO) < len(params) // 4


def test_a_greedy_step_equals_a_mixed_one() -> None:
    logits = torch.randn(6, 500, generator=torch.Generator().manual_seed(1), device="cpu")
    rows = rows_of([CASES[0]] * 6, 1)
    assert static_ids(logits, rows, drawn=False) == static_ids(logits, rows)


def test_rows_that_reach_past_the_prefilter_are_handed_back() -> None:
    """All logits equal: no 1,024 of them hold 0.9 of the weight."""
    logits = torch.zeros(2, 4_000)
    rows = rows_of([SamplingParams(top_p=0.9), SamplingParams(temperature=1.0)], 1)
    found = static_ids(logits, rows)
    assert found[0] == REDO
    assert found[1] != REDO


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_rows_that_are_not_numbers_are_handed_back(bad: float | None) -> None:
    """And leave their neighbours' ids alone."""
    logits = torch.randn(3, 2_000, generator=torch.Generator().manual_seed(1))
    rows = rows_of([CASES[4]] * 3, 1)
    clean = static_ids(logits, rows)
    if bad is None:
        logits[1] = float("-inf")
    else:
        logits[1, 7] = bad
    found = static_ids(logits, rows)
    assert found[1] == REDO
    assert (found[0], found[2]) == (clean[0], clean[2])
    assert static_ids(logits, rows_of([CASES[0]] * 3, 1), drawn=False)[1] == REDO


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(repetition_penalty=1.1),
        SamplingParams(presence_penalty=0.5),
        SamplingParams(logit_bias={3: 1.0}),
        SamplingParams(logprobs=0),
        SamplingParams(min_tokens=2, max_tokens=9),
        SamplingParams(top_k=PREFILTER + 1),
    ],
    ids=str,
)
def test_what_edits_logits_or_asks_about_them_is_not_served(params: SamplingParams) -> None:
    row = SampleRow.create(params, 1, (), (5,))
    assert not serves(row, 5_000)
    row.step = 2
    assert serves(row, 5_000) is (params.min_tokens == 2)
