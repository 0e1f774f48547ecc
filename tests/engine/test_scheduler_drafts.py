"""Scheduler with drafts: fewer steps, the same answers, and no trace of what was guessed wrong."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from aquila2_runtime.engine.kv_cache import BlockPool
from aquila2_runtime.engine.request import Status
from aquila2_runtime.engine.scheduler import Scheduler
from tests.engine.paper_model import PaperModel, answer_of, make_request


def _scheduler(blocks: int = 64, size: int = 4, **options: int | bool) -> Scheduler:
    settings = {"max_num_seqs": 4, "max_step_tokens": 64, "speculate": True, **options}
    return Scheduler(BlockPool(blocks, size), **settings)  # type: ignore[arg-type]


def _cycle(ids: Sequence[int]) -> int:
    return (ids[-1] + 1) % 6


def test_a_repeating_answer_takes_fewer_steps() -> None:
    scheduler = _scheduler()
    request = make_request(1, [0, 1, 2, 3, 4, 5, 0, 1], max_tokens=60)
    expected = answer_of(request, _cycle)
    model = PaperModel(scheduler, _cycle)
    scheduler.add(request)
    while request.status is not Status.ENDED:
        model.step()
    assert request.token_ids[request.num_prompt :] == expected
    assert model.steps < 12
    # One id comes without a draft in each step; the rest were guessed.
    assert scheduler.accepted == 60 - model.steps
    assert scheduler.pool.num_in_use == 0


def test_an_answer_ends_at_a_stop_id_among_its_drafts() -> None:
    scheduler = _scheduler()
    request = make_request(1, [0, 1, 2, 3, 4, 5] * 2, max_tokens=60, stop_ids=frozenset({3}))
    model = PaperModel(scheduler, _cycle)
    scheduler.add(request)
    while request.status is not Status.ENDED:
        model.step()
    assert request.token_ids[12:] == [0, 1, 2, 3]


def test_drafts_stay_within_max_tokens() -> None:
    scheduler = _scheduler()
    request = make_request(1, [0, 1, 2, 3, 4, 5] * 2, max_tokens=4)
    model = PaperModel(scheduler, _cycle)
    scheduler.add(request)
    drafts = [item.drafts for _ in range(2) for item in model.step()]
    assert [len(each) for each in drafts] == [0, 2]
    assert request.status is Status.ENDED


def test_nobody_drafts_while_many_decode() -> None:
    scheduler = _scheduler(max_num_seqs=5)
    for number in range(5):
        scheduler.add(make_request(number, [0, 1, 2, 3, 4, 5] * 2, max_tokens=20 + number))
    model = PaperModel(scheduler, _cycle)
    while len(scheduler.running) == 5 or scheduler.waiting:
        assert all(not item.drafts for item in model.step())
    assert any(item.drafts for item in model.step())


def test_drafts_take_no_block_from_anybody() -> None:
    # Room for exactly one request and its answer so far, not for a block of drafts.
    scheduler = _scheduler(blocks=4, size=4)
    request = make_request(1, [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5], max_tokens=4)
    model = PaperModel(scheduler, _cycle)
    scheduler.add(request)
    while request.status is not Status.ENDED:
        model.step()
    assert scheduler.preemptions == 0
    assert request.token_ids[12:] == [0, 1, 2, 3]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_answers_equal_those_without_drafts_in_any_pool(data: st.DataObject) -> None:
    small = st.integers(0, 2)
    table = data.draw(st.lists(small, min_size=27, max_size=27), label="next id by the last three")

    def next_id(ids: Sequence[int]) -> int:
        last = [0, 0, 0, *ids][-3:]
        return table[9 * last[0] + 3 * last[1] + last[2]]

    scheduler = _scheduler(
        blocks=data.draw(st.integers(13, 18), label="blocks"),
        size=2,
        max_num_seqs=data.draw(st.integers(1, 6), label="max_num_seqs"),
        max_step_tokens=data.draw(st.integers(1, 24), label="max_step_tokens"),
        speculate=data.draw(st.booleans(), label="speculate"),
    )
    prompts = st.lists(small, min_size=1, max_size=12)
    requests = [
        make_request(
            number,
            data.draw(prompts, label="prompt"),
            max_tokens=data.draw(st.integers(1, 13), label="max_tokens"),
            stop_ids=frozenset(data.draw(st.sets(small, max_size=1), label="stop_ids")),
            cache_key=data.draw(st.sampled_from([(), ("salt",)]), label="cache_key"),
        )
        for number in range(data.draw(st.integers(1, 7), label="requests"))
    ]
    expected = [answer_of(request, next_id) for request in requests]
    model = PaperModel(scheduler, next_id)
    for request in requests:
        scheduler.add(request)
    for _ in range(2_000):
        if all(request.status is Status.ENDED for request in requests):
            break
        assert model.step(), "work is waiting and nothing was scheduled"
    assert [request.token_ids[request.num_prompt :] for request in requests] == expected
    assert scheduler.pool.num_in_use == 0
