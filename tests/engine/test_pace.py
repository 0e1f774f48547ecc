"""Pace: chunks beside decoding requests take about a set time, on any machine."""

from __future__ import annotations

import pytest

from aquila2_runtime.engine.kv_cache import BlockPool
from aquila2_runtime.engine.pace import Pace
from aquila2_runtime.engine.scheduler import Scheduler
from tests.engine.paper_model import make_request


@pytest.mark.parametrize(
    ("token_seconds", "expected"),
    [(1e-5, 384), (0.001, 150), (0.0025, 60), (0.03, 32), (0.0, 384)],
    ids=["fast", "as asked", "slow", "too slow for any chunk", "a clock that stands still"],
)
def test_it_settles_on_what_the_machine_can_do(token_seconds: float, expected: int) -> None:
    pace = Pace(384)
    assert pace.tokens == 128
    for _ in range(12):
        pace.note(pace.tokens, pace.tokens * token_seconds)
    assert pace.tokens == pytest.approx(expected, abs=1)


def test_it_follows_a_machine_that_becomes_busy() -> None:
    pace = Pace(384)
    for seconds in (0.0002, 0.003):
        for _ in range(12):
            pace.note(pace.tokens, pace.tokens * seconds)
    assert pace.tokens == pytest.approx(50, abs=1)


def test_a_few_tokens_say_nothing() -> None:
    """Such a step's time is that of its decoding rows."""
    pace = Pace(384)
    for _ in range(12):
        pace.note(3, 1.0)
    assert pace.tokens == 128


def test_a_bound_below_the_least_chunk_holds() -> None:
    pace = Pace(7)
    for seconds in (10.0, 0.0):
        assert pace.tokens == 7
        pace.note(7, seconds)


def test_the_scheduler_takes_as_many_prompt_tokens_as_the_pace_allows() -> None:
    scheduler = Scheduler(
        BlockPool(200, 4),
        max_num_seqs=4,
        max_step_tokens=500,
        max_prefill_beside_decode=384,
        pace=Pace(384),
    )
    reader, prompt = make_request(1, [1] * 8, max_tokens=50), make_request(2, [2] * 700)
    scheduler.add(reader)
    for item in scheduler.schedule():
        scheduler.computed(item)
    reader.token_ids.append(5)
    scheduler.add(prompt)
    counts = []
    for _ in range(4):
        plan = scheduler.schedule()
        counts.append(sum(item.count for item in plan if item.request is prompt))
        for item in plan:
            scheduler.computed(item)
        scheduler.took(plan, 0.003 * counts[-1])
        reader.token_ids.append(5)
    assert counts == [128, 50, 50, 50]
