"""Load and request options: what is wrong is refused as ours, however odd, before any work."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquila2_runtime import (
    Aquila2Runtime,
    InvalidLoadOptionError,
    InvalidRequestError,
    SamplingParams,
    UnknownParameterError,
)
from aquila2_runtime.load_options import OPTION_NAMES, LoadOptions
from aquila2_runtime.request_options import REQUEST_OPTIONS, RequestOptions
from aquila2_runtime.shown import shown


class Unspeakable:
    """A value whose repr raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


ODD = (
    10**5_000,
    "9" * 100_000,
    nested(3_000),
    {"a": nested(3_000)},
    Unspeakable(),
    [Unspeakable()],
    float("nan"),
    float("inf"),
    b"bytes",
    [0] * 100_000,
    (1, 2),
    lambda: None,
)


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", sorted(OPTION_NAMES))
def test_an_odd_value_of_any_load_option_is_refused_as_ours(name: str, value: Any) -> None:
    """S1: also where Python itself cannot spell the value."""
    given_options = {"model": "aquila2-demo", name: value}
    if name == "progress" and callable(value):
        LoadOptions(**given_options)
        return
    if isinstance(value, str) and name in ("model", "template", "revision", "cache_dir"):
        LoadOptions(**given_options)  # long, but text: whether it exists is found out later
        return
    with pytest.raises(InvalidLoadOptionError) as caught:
        LoadOptions(**given_options)
    assert caught.value.parameter == name
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", sorted(REQUEST_OPTIONS))
def test_an_odd_value_of_any_request_option_is_refused_as_ours(name: str, value: Any) -> None:
    """S1."""
    if name == "progress" and callable(value):
        RequestOptions(progress=value)
        return
    with pytest.raises(InvalidRequestError) as caught:
        RequestOptions(**{name: value})
    assert caught.value.parameter == name
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "size",
    ["9" * 400 + "GiB", "9" * 19 + "GiB", 2**50 + 1, 10**400, 0, -1, True, "0", "-1GiB", "1.GiB",
     "1 TB", "", "GiB", "1e3", "٣GiB", "0.1B"],
)  # fmt: skip
def test_a_cache_size_that_no_machine_has_is_refused(size: Any) -> None:
    """S1: four hundred nines were once an OverflowError."""
    with pytest.raises(InvalidLoadOptionError, match="kv_cache_memory"):
        LoadOptions(model="x", kv_cache_memory=size)


@pytest.mark.parametrize(
    ("size", "count"),
    [(1, 1), ("1", 1), ("4GiB", 2**32), (" 1.5 KiB ", 1_536), ("512MiB", 2**29), (2**50, 2**50)],
)
def test_a_cache_size_is_kept_in_bytes(size: Any, count: int) -> None:
    assert LoadOptions(model="x", kv_cache_memory=size).kv_cache_bytes == count


@pytest.mark.parametrize(
    "device",
    ["cuda:" + "9" * 30, "cuda:128", "cuda:256", "cuda:007", "cuda:-1", "cuda:", "cuda:١", "CPU",
     "cpu:0", "mps", "", " cpu", "cuda:0\n"],
)  # fmt: skip
def test_a_device_that_torch_would_misread_is_refused(device: str) -> None:
    """S1: torch takes "cuda:256" for "cuda:0", and thirty nines raised its RuntimeError."""
    with pytest.raises(InvalidLoadOptionError, match="device"):
        LoadOptions(model="x", device=device)
    with pytest.raises(InvalidLoadOptionError, match="device"):
        Aquila2Runtime.load("aquila2-demo", device=device)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:7", "cuda:127"])
def test_devices_that_may_exist_are_taken(device: str) -> None:
    assert LoadOptions(model="x", device=device).device == device


def test_options_that_do_not_exist_are_refused_with_the_nearest() -> None:
    """S8."""
    with pytest.raises(UnknownParameterError, match="timeout"):
        RequestOptions.from_kwargs(timeot=3)
    with pytest.raises(UnknownParameterError, match="quantization"):
        LoadOptions.from_kwargs(model="x", quantisation="nf4")


def test_request_options_are_frozen_and_keep_what_is_right() -> None:
    options = RequestOptions(fit="middle", cache_salt="tenant", timeout=3)
    assert (options.fit, options.cache_salt, options.timeout) == ("middle", "tenant", 3.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.timeout = 4  # type: ignore[misc]


@given(st.recursive(st.integers() | st.text() | st.floats() | st.binary(), st.lists))
def test_any_value_can_be_shown_in_few_characters(value: Any) -> None:
    assert len(shown(value)) <= 80
    assert len(shown(value, 20)) <= 20


def test_showing_does_not_spell_what_it_leaves_out() -> None:
    """S4: a list of ten million is shown by its beginning; the guard is only for a hang."""
    began = time.perf_counter()
    for value in ([0] * 10_000_000, "x" * 100_000_000, *ODD):
        assert 0 < len(shown(value)) <= 80
    assert time.perf_counter() - began < 10
    assert shown("short") == "'short'"
    assert shown("a" * 200).endswith("...")


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("max_completion_tokens", "max_tokens"),
        ("num_predict", "max_tokens"),
        ("stop_sequences", "stop"),
        ("do_sample", "temperature"),
    ],
)
def test_another_library_s_word_is_answered_with_the_one_that_means_the_same(
    name: str, ours: str
) -> None:
    """The nearest in spelling to OpenAI's max_completion_tokens was min_tokens."""
    with pytest.raises(UnknownParameterError, match=f"Did you mean '{ours}'") as caught:
        SamplingParams.from_kwargs(**{name: 1})
    assert caught.value.parameter == name


def test_another_library_s_word_is_named_only_where_ours_exists() -> None:
    with pytest.raises(UnknownParameterError, match="Did you mean 'dtype'"):
        LoadOptions.from_kwargs(model="nowhere", torch_dtype="float16")
    with pytest.raises(UnknownParameterError) as caught:
        RequestOptions.from_kwargs(num_predict=5)
    assert "max_tokens" not in str(caught.value)
