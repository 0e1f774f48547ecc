"""How layers are spread over devices: every table of free memory by brute force."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquila2_runtime.checkpoint.memory import estimate_memory
from aquila2_runtime.checkpoint.splitting import Parts, balance, longest, parts_of
from tests.checkpoint.test_memory import SEVEN, SEVENTY, THIRTY_FOUR

GIB = 2**30
SMALL = Parts(layers=6, layer=100, first=70, last=90, each=20, kv=2)


def best(parts: Parts, free: Sequence[int]) -> int:
    """The longest cache of any split, by trying all of them; -1 where nothing fits."""
    found = -1
    ranges = [range(1, parts.layers + 1)] * len(free)
    for counts in itertools.product(*ranges):
        if sum(counts) != parts.layers:
            continue
        rooms = [
            (free[at] - parts.held(at, counts, 0)) // (counts[at] * parts.kv)
            if free[at] >= parts.held(at, counts, 0)
            else -1
            for at in range(len(free))
        ]
        found = max(found, min(rooms))
    return found


def room_of(parts: Parts, free: Sequence[int], counts: Sequence[int]) -> int:
    return min(
        (free[at] - parts.held(at, counts, 0)) // (counts[at] * parts.kv) for at in range(len(free))
    )


@given(
    free=st.lists(st.integers(0, 1200), min_size=1, max_size=3),
    tokens=st.integers(0, 100),
)
def test_no_other_split_has_room_for_a_block_more(free: list[int], tokens: int) -> None:
    counts = balance(SMALL, free, tokens)
    most = best(SMALL, free)
    if counts is None:
        assert most < tokens
        return
    assert len(counts) == len(free)
    assert sum(counts) == SMALL.layers
    assert min(counts) >= 1
    room = room_of(SMALL, free, counts)
    assert tokens <= room <= most < room + 17
    assert all(SMALL.held(at, counts, room) <= free[at] for at in range(len(free)))


@given(free=st.lists(st.integers(0, 1200), min_size=1, max_size=3))
def test_the_longest_context_is_what_the_best_split_holds(free: list[int]) -> None:
    most = best(SMALL, free)
    assert longest(SMALL, free, 10_000) == max(most // 16 * 16, 0)
    assert longest(SMALL, free, 32) <= 32


@pytest.mark.parametrize(
    ("config", "options", "gigabytes", "fits"),
    [
        (SEVENTY, {}, [80, 80], True),
        (SEVENTY, {}, [80, 48], False),
        (SEVENTY, {}, [48, 48, 48], True),
        (SEVENTY, {"quantization": "nf4"}, [24, 24], True),
        (SEVENTY, {"quantization": "nf4"}, [24, 12], False),
        (THIRTY_FOUR, {"max_model_len": 4096}, [24, 48], True),
        (THIRTY_FOUR, {"max_model_len": 4096}, [48, 24], True),
        (THIRTY_FOUR, {"max_model_len": 4096}, [24, 24], False),
        (THIRTY_FOUR, {"quantization": "nf4"}, [12, 24], True),
        (THIRTY_FOUR, {}, [80, 80], True),
        (SEVEN, {}, [12, 12], True),
        (SEVEN, {}, [8, 8], False),
        (SEVEN, {}, [80, 12], True),
    ],
)
def test_the_released_sizes_on_common_cards(
    config: Any, options: dict[str, Any], gigabytes: list[int], fits: bool
) -> None:
    estimate = estimate_memory(config, dtype="bfloat16", step_tokens=2048, **options)
    parts = parts_of(config, estimate, 2)
    # A card shows some percent less than its name says.
    free = [int(size * GIB * 0.97) for size in gigabytes]
    counts = balance(parts, free, estimate.kv_tokens)
    assert (counts is not None) == fits
    if counts is None:
        return
    assert sum(counts) == config.num_layers
    for at, room in enumerate(free):
        assert parts.held(at, counts, estimate.kv_tokens) <= room
    if len(set(gigabytes)) == 1:
        # The ends hold embedding and head besides: within two layers of each other.
        assert max(counts) - min(counts) <= 2 + (parts.first + parts.last) // parts.layer
    else:
        assert (counts[0] > counts[-1]) == (gigabytes[0] > gigabytes[-1])


def test_embedding_and_head_are_counted_where_they_are() -> None:
    enough = 20 + 70 + 100, 20 + 5 * 100 + 90
    assert balance(SMALL, enough, 0) == (1, 5)
    assert balance(SMALL, (enough[0] - 1, enough[1]), 0) is None
    assert balance(SMALL, (enough[0], enough[1] - 1), 0) is None
    # One device holds all of it, and a layer is never divided.
    assert balance(SMALL, (20 + 70 + 600 + 90,), 0) == (6,)
    assert balance(SMALL, (20 + 70 + 600 + 90 - 1,), 0) is None
    assert balance(SMALL, [10_000] * 7, 0) is None


def test_the_parts_are_the_whole() -> None:
    for config in (SEVEN, THIRTY_FOUR, SEVENTY):
        for options in ({}, {"quantization": "nf4"}, {"quantization": "nf4", "nf4_copy": True}):
            estimate = estimate_memory(config, dtype="bfloat16", **options)
            parts = parts_of(config, estimate, 2)
            weights = parts.first + parts.last + parts.layers * parts.layer
            assert 0 <= weights - estimate.weights - estimate.copy < parts.layers
            assert parts.kv * parts.layers == estimate.kv_per_token
