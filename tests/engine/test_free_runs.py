"""FreeRuns: consecutive numbers where there are any, and nothing lost."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from aquila2_runtime.engine.free_runs import GAP, FreeRuns
from aquila2_runtime.engine.kv_cache import BlockPool


def _runs(numbers: list[int]) -> int:
    return 1 + sum(1 for one, two in itertools.pairwise(numbers) if two != one + 1)


def test_requests_that_grow_in_turn_stay_in_one_run_each() -> None:
    free = FreeRuns(range(1, 1_001))
    held = [free.take(10) for _ in range(16)]
    for _ in range(GAP):
        for blocks in held:
            blocks += free.take(1, after=blocks[-1])
    assert [_runs(blocks) for blocks in held] == [1] * 16


def test_a_long_request_gets_one_run_beside_short_ones() -> None:
    free = FreeRuns(range(1, 1_001))
    for _ in range(12):
        free.take(5)
    assert _runs(free.take(300)) == 1


def test_where_no_run_is_long_enough_the_longest_are_used() -> None:
    free = FreeRuns([*range(1, 4), *range(10, 20), *range(30, 36)])
    assert free.take(15) == [*range(10, 20), *range(30, 35)]
    assert len(free) == 4


def test_a_pool_full_of_prefixes_still_gives_runs_to_a_growing_request() -> None:
    pool = BlockPool(1_024, 1)
    for text in range(8):
        ids = [text] * 128
        blocks = pool.allocate(128) or []
        pool.enter(ids, 128, blocks, [], ())
        pool.release(blocks)
    assert pool.num_cached == 1_024
    grown = pool.allocate(4) or []
    for _ in range(60):
        grown += pool.allocate(1, after=grown[-1]) or []
    assert _runs(grown) <= 1 + 60 // GAP


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_number_is_free_or_taken_once(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 60))
    free = FreeRuns(range(1, total + 1))
    taken: list[int] = []
    for _ in range(data.draw(st.integers(1, 40))):
        if taken and data.draw(st.booleans()):
            free.add(taken.pop(data.draw(st.integers(0, len(taken) - 1))))
        elif len(free):
            after = data.draw(st.sampled_from(taken)) if taken else None
            taken += free.take(data.draw(st.integers(1, len(free))), after)
        assert len(set(taken)) == len(taken)
        assert len(free) == total - len(taken)
    rest = free.take(len(free))
    assert sorted(taken + rest) == list(range(1, total + 1))
