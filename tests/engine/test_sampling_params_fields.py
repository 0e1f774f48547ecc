"""SamplingParams: what is refused, how, and what is stored."""

from __future__ import annotations

import math
import pickle
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquila2_runtime.errors import InvalidSamplingParamsError, UnknownParameterError
from aquila2_runtime.sampling import FIELD_NAMES, SamplingParams

NAN, INF = math.nan, math.inf
WHOLE = ("max_tokens", "min_tokens", "top_k", "seed", "n", "logprobs", "prompt_logprobs")
NUMBERS = (
    "temperature",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
FLAGS = ("include_stop_str_in_output", "ignore_eos")
NONE_ALLOWED = {
    "max_tokens",
    "seed",
    "logprobs",
    "prompt_logprobs",
    "constraint",
    "logit_bias",
    "stop",
    "stop_token_ids",
}


def refused(**fields: object) -> InvalidSamplingParamsError:
    with pytest.raises(InvalidSamplingParamsError) as caught:
        SamplingParams.from_kwargs(**fields)
    return caught.value


class _Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no spelling")


@pytest.mark.parametrize("name", sorted(FIELD_NAMES))
@pytest.mark.parametrize(
    "value",
    [
        "1",
        b"1",
        NAN,
        INF,
        -INF,
        1j,
        object(),
        {1},
        {"a": 1},
        [[1]],
        [None],
        _Hostile(),
        10**5000,
        -(10**5000),
        [10**5000],
    ],
    ids=lambda value: type(value).__name__,
)
def test_wrong_types_and_numbers_that_are_none_are_refused(name: str, value: object) -> None:
    """S1: every field, the value and the parameter named."""
    if name == "stop" and isinstance(value, str):
        pytest.skip("a string is what stop takes")
    error = refused(**{name: value})
    assert error.parameter is not None and error.parameter.startswith(name)
    assert name in str(error) and len(str(error)) < 400


@pytest.mark.parametrize("name", [*WHOLE, *NUMBERS])
@pytest.mark.parametrize("value", [True, False])
def test_true_and_false_are_no_numbers(name: str, value: bool) -> None:
    """S1: though Python counts them as integers."""
    assert refused(**{name: value}).value is value


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", [0, 1, "true"])
def test_numbers_are_no_flags(name: str, value: object) -> None:
    """S1: and neither are words."""
    assert refused(**{name: value}).parameter == name


@pytest.mark.parametrize("name", sorted(FIELD_NAMES))
def test_none_is_taken_only_where_it_means_something(name: str) -> None:
    """S1: elsewhere it is refused."""
    if name in NONE_ALLOWED:
        SamplingParams.from_kwargs(**{name: None})
    else:
        assert refused(**{name: None}).parameter == name


BORDERS = {
    "max_tokens": (1, 1_000_000, 1),
    "min_tokens": (0, 1_000_000, 1),
    "temperature": (0.0, 2.0, 0.01),
    "top_p": (5e-324, 1.0, 5e-324),
    "top_k": (-1, 2**31 - 1, 1),
    "min_p": (0.0, 1.0, 0.01),
    "repetition_penalty": (5e-324, 2.0, 5e-324),
    "presence_penalty": (-2.0, 2.0, 0.01),
    "frequency_penalty": (-2.0, 2.0, 0.01),
    "seed": (-(2**63), 2**63 - 1, 1),
    "n": (1, 64, 1),
    "logprobs": (0, 20, 1),
    "prompt_logprobs": (0, 20, 1),
}


@pytest.mark.parametrize("name", BORDERS)
def test_ranges_hold_at_their_borders(name: str) -> None:
    """S1, S4, S12: both ends are taken, what lies beyond is refused."""
    low, high, step = BORDERS[name]
    for value in (low, high):
        assert getattr(SamplingParams.from_kwargs(**{name: value}), name) == value
    for value in (low - step, high + (step if step > 1e-9 else 0.01), 10**400):
        assert refused(**{name: value}).parameter == name


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(FIELD_NAMES)),
    value=st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=600),
        st.lists(st.integers() | st.text(), max_size=20),
        st.dictionaries(st.integers() | st.text(), st.floats() | st.none(), max_size=4),
    ),
)
def test_any_value_is_taken_or_refused_as_ours(name: str, value: object) -> None:
    """S1: nothing else is raised, and what is taken can be hashed, copied and pickled."""
    try:
        made = SamplingParams.from_kwargs(**{name: value})
    except InvalidSamplingParamsError:
        return
    assert made == made.replace() == pickle.loads(pickle.dumps(made))
    assert hash(made) == hash(made.replace())


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"n": 10**9}, "n"),
        ({"logprobs": 10**9}, "logprobs"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": "x" * 513}, "stop"),
        ({"stop_token_ids": list(range(1_025))}, "stop_token_ids"),
        ({"logit_bias": dict.fromkeys(range(1_025), 0.0)}, "logit_bias"),
        ({"seed": 2**64}, "seed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_have_upper_bounds_and_refusing_allocates_nothing(
    fields: dict[str, object], name: str
) -> None:
    """S4: an enormous number is as cheap to refuse as a small one."""
    refused(**fields)  # imports and caches are made here
    tracemalloc.start()
    error = refused(**fields)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.parameter == name
    assert peak < 200_000


def test_more_least_tokens_than_most_tokens_are_refused() -> None:
    """S5: and as many are taken."""
    assert refused(max_tokens=4, min_tokens=5).parameter == "min_tokens"
    assert SamplingParams(max_tokens=4, min_tokens=4).min_tokens == 4
    assert SamplingParams(min_tokens=5).max_tokens is None


@pytest.mark.parametrize(
    "fields",
    [
        {"logit_bias": {-1: 1.0}},
        {"logit_bias": {True: 1.0}},
        {"logit_bias": {"5": 1.0}},
        {"logit_bias": {5: 100.1}},
        {"logit_bias": {5: NAN}},
        {"logit_bias": {5: True}},
        {"stop_token_ids": [-1]},
        {"stop_token_ids": [1.0]},
        {"stop_token_ids": [True]},
    ],
    ids=str,
)
def test_token_ids_and_biases_are_checked_one_by_one(fields: dict[str, object]) -> None:
    """S6: a negative id would count from the end."""
    refused(**fields)


@pytest.mark.parametrize(
    "stop", ["", ["a", ""], "x" * 2**20, [["a"]], [{}], [1], {"a"}], ids=lambda v: repr(v)[:9]
)
def test_stops_that_cannot_be_sought_are_refused(stop: object) -> None:
    """S7: empty, enormous, or no strings; the message stays short."""
    error = refused(stop=stop)
    assert error.parameter == "stop"
    assert len(str(error)) < 300


def test_repeated_stops_are_kept_once_and_in_order() -> None:
    """S7: whatever sequence they came in."""
    made = SamplingParams(stop=["b", "a", "b"], stop_token_ids=[3, 1, 3])
    assert made.stop_strings == ("b", "a")
    assert made.stop_ids == (3, 1)
    assert SamplingParams(stop="b").stop_strings == ("b",)
    assert SamplingParams(stop=None, stop_token_ids=None).stop_strings == ()


@pytest.mark.parametrize(
    "build", [SamplingParams.from_kwargs, lambda **f: SamplingParams().replace(**f)]
)
def test_an_unknown_keyword_names_the_nearest(build: Callable[..., SamplingParams]) -> None:
    """S8: nothing is dropped silently."""
    with pytest.raises(UnknownParameterError, match="temperature"):
        build(temprature=0.5)


def test_the_callers_own_containers_are_not_kept() -> None:
    """S1: what was checked cannot change afterwards."""
    bias = {1: 1.0}
    made = SamplingParams(logit_bias=bias)
    bias[-1] = NAN
    assert made.logit_bias == {1: 1.0}
