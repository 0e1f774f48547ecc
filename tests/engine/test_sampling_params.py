"""SamplingParams: every field refuses what it cannot mean, and what it accepts always works."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquila2_runtime import InvalidSamplingParamsError, SamplingParams, UnknownParameterError
from aquila2_runtime.engine.sampler import Sampler, SampleRow
from aquila2_runtime.sampling import FIELD_NAMES

WRONG: list[tuple[str, Any]] = [
    *[(name, value) for name in ("temperature", "top_p", "min_p", "repetition_penalty")
      for value in (math.nan, math.inf, -math.inf, -0.1, 2.1, True, "1", None, [1])],
    *[(name, value) for name in ("presence_penalty", "frequency_penalty")
      for value in (math.nan, math.inf, -2.1, 2.1, True, "1", None)],
    *[(name, value) for name in ("max_tokens", "n")
      for value in (0, -1, 10**9, True, 1.0, "1", math.nan)],
    *[("seed", value) for value in (2**63, -(2**63) - 1, 1.0, True, "1")],
    *[(name, value) for name in ("logprobs", "prompt_logprobs") for value in (-1, 21, True, 1.5)],
    *[("min_tokens", value) for value in (-1, 10**9, True, None, 1.5)],
    *[("top_k", value) for value in (-2, 2**31, True, 1.5, None)],
    ("top_p", 0), ("repetition_penalty", 0),
    ("stop", ""), ("stop", ["a", ""]), ("stop", "x" * 1_000_000), ("stop", ["a"] * 17), ("stop", 5),
    ("stop", [1]), ("stop", {"a"}),
    ("stop_token_ids", [-1]), ("stop_token_ids", [True]), ("stop_token_ids", [1.0]),
    ("stop_token_ids", 5), ("stop_token_ids", [1] * 2_000),
    ("logit_bias", {-1: 1.0}), ("logit_bias", {1: math.nan}), ("logit_bias", {1: 101}),
    ("logit_bias", {"1": 1.0}), ("logit_bias", {True: 1.0}), ("logit_bias", [1]),
    ("logit_bias", {n: 0.0 for n in range(2_000)}),
    ("ignore_eos", 1), ("include_stop_str_in_output", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda item: repr(item)[:30])
def test_a_wrong_value_is_refused_by_name(name: str, value: Any) -> None:
    """S1, S4, S6, S7: the error names the parameter."""
    with pytest.raises(InvalidSamplingParamsError) as caught:
        SamplingParams(**{name: value})
    assert str(caught.value.parameter).startswith(name)
    assert name in str(caught.value)
    assert len(str(caught.value)) < 400


def test_min_tokens_may_not_exceed_max_tokens() -> None:
    """S5."""
    with pytest.raises(InvalidSamplingParamsError, match="min_tokens"):
        SamplingParams(min_tokens=5, max_tokens=4)


def test_an_unknown_keyword_raises_and_suggests() -> None:
    """S8."""
    with pytest.raises(UnknownParameterError, match="temperature") as caught:
        SamplingParams.from_kwargs(temprature=1)
    assert isinstance(caught.value, TypeError)
    with pytest.raises(UnknownParameterError):
        SamplingParams().replace(max_token=3)


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1, exclude_min=True),
    "top_k": st.integers(-1, 2**31 - 1),
    "min_p": st.floats(0, 1),
    "repetition_penalty": st.floats(0, 2, exclude_min=True),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
    "logit_bias": st.none() | st.dictionaries(st.integers(0, 7), st.floats(-100, 100)),
    "stop_token_ids": st.lists(st.integers(0, 7), max_size=3),
    "min_tokens": st.integers(0, 3),
    "logprobs": st.none() | st.integers(0, 20),
}


@settings(max_examples=200, deadline=None)
@given(fields=st.fixed_dictionaries({}, optional=FIELDS), seed=st.integers(-(2**63), 2**63 - 1))
def test_what_is_accepted_never_fails_later(fields: dict[str, Any], seed: int) -> None:
    """S1: any accepted combination samples an id, unless every id is barred."""
    assert fields.keys() <= FIELD_NAMES
    params = SamplingParams(seed=seed, **fields)
    row = SampleRow.create(params, seed, (0, 1, 2))
    logits = torch.tensor([[3.0, -2.0, 0.5, 1e-3, 30.0, -50.0, 0.0, 0.0]])
    result = Sampler(8, 8).sample(logits, [row])
    assert 0 <= result.token_ids[0] < 8 or result.failed
