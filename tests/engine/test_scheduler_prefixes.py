"""Scheduler and prefix cache: what several prompts begin with is computed once, for them alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from aquila2_runtime.engine.kv_cache import BlockPool
from aquila2_runtime.engine.request import Request, Status
from aquila2_runtime.engine.scheduler import Scheduler
from aquila2_runtime.sampling import SamplingParams
from tests.engine.paper_model import PaperModel, make_request

SIZE = 4
DOCUMENT = [100 + at for at in range(60)]


def _count_up(ids: Sequence[int]) -> int:
    return len(ids)


def _model(blocks: int = 256, **options: int) -> PaperModel:
    settings = {"max_num_seqs": 16, "max_step_tokens": 16, **options}
    return PaperModel(Scheduler(BlockPool(blocks, SIZE), **settings), _count_up)


def _run(model: PaperModel, requests: Sequence[Request]) -> None:
    for request in requests:
        model.scheduler.add(request)
    for _ in range(500):
        if all(request.status is Status.ENDED for request in requests):
            break
        assert model.step(), "work is waiting and nothing was scheduled"
    assert model.scheduler.pool.num_in_use == 0


def _ask(number: int, **options: object) -> Request:
    prompt = [*DOCUMENT, 1_000 + number, 7]
    return make_request(number, prompt, max_tokens=3, **options)  # type: ignore[arg-type]


def test_questions_asked_together_have_their_document_computed_once() -> None:
    model = _model()
    requests = [_ask(number) for number in range(10)]
    _run(model, requests)
    assert [request.num_cached for request in requests] == [0, *[60] * 9]
    # The document, then two tokens of each question and two of each answer.
    assert model.rows == 60 + 10 * (2 + 2)


def test_those_who_wait_hold_up_nobody_else() -> None:
    model = _model()
    first, same, other = _ask(1), _ask(2), make_request(3, [5] * 6, max_tokens=1)
    for request in (first, same, other):
        model.scheduler.add(request)
    rows = [[(item.request.request_id, item.count) for item in model.step()] for _ in range(5)]
    assert rows[0] == [(1, 16)]
    assert rows[3] == [(1, 14), (3, 2)]  # what the first leaves of the step
    assert rows[4] == [(1, 1), (3, 4), (2, 2)]
    assert same.num_cached == 60


def test_a_waiting_request_keeps_its_seat() -> None:
    model = _model(max_num_seqs=2, max_step_tokens=100)
    requests = [_ask(1), _ask(2), make_request(3, [5] * 6, max_tokens=1)]
    for request in requests:
        model.scheduler.add(request)
    assert [item.request.request_id for item in model.step()] == [1]
    assert [item.request.request_id for item in model.step()] == [1, 2]


@pytest.mark.parametrize("end", ["abort", "preempt"])
def test_when_the_one_computing_it_goes_another_takes_over(end: str) -> None:
    model = _model()
    scheduler = model.scheduler
    requests = [_ask(number) for number in range(4)]
    for request in requests:
        scheduler.add(request)
    model.step()
    if end == "abort":
        scheduler.end(requests[0])
    else:
        scheduler._preempt(requests[0])
    left = requests[1:] if end == "abort" else requests
    for _ in range(50):
        if all(request.status is Status.ENDED for request in left):
            break
        assert model.step()
    # What was computed before is taken over, and nothing of the document is computed twice.
    assert model.rows == 60 + len(left) * (2 + 2)
    assert scheduler.pool.num_in_use == 0


def test_nothing_is_awaited_across_salts_or_without_the_cache() -> None:
    model = _model(max_step_tokens=200)
    requests = [_ask(1, cache_key=("a",)), _ask(2, cache_key=("b",)), _ask(3, cache_key=("a",))]
    for request in requests:
        model.scheduler.add(request)
    assert [item.request.request_id for item in model.step()] == [1, 2]
    plain = PaperModel(
        Scheduler(BlockPool(256, SIZE, prefix_cache=False), max_num_seqs=8, max_step_tokens=500),
        _count_up,
    )
    for number in range(3):
        plain.scheduler.add(_ask(number))
    assert len(plain.step()) == 3


def test_a_prompt_whose_every_logit_is_wanted_neither_waits_nor_takes_from_the_cache() -> None:
    model = _model(max_step_tokens=500)
    wants = SamplingParams(prompt_logprobs=1)
    requests = [_ask(1), _ask(2, params=wants)]
    for request in requests:
        model.scheduler.add(request)
    assert len(model.step()) == 2
    assert requests[1].num_cached == 0


def test_short_common_beginnings_are_not_worth_a_delay() -> None:
    model = _model(max_step_tokens=500)
    for number in range(3):
        model.scheduler.add(make_request(number, [*DOCUMENT[:20], 900 + number] * 2))
    assert len(model.step()) == 3


def test_what_two_computed_side_by_side_is_kept_once() -> None:
    model = _model(max_step_tokens=500)
    requests = [make_request(number, [*DOCUMENT[:20], 900 + number]) for number in range(3)]
    for request in requests:
        model.scheduler.add(request)
    model.step()
    assert len({tuple(request.blocks[:5]) for request in requests}) == 1
    # Five blocks for all three, and one of each.
    assert model.scheduler.pool.num_in_use == 5 + 3


def test_a_preempted_request_finds_its_own_blocks_again() -> None:
    model = _model()
    request = _ask(1)
    model.scheduler.add(request)
    for _ in range(5):
        model.step()
    assert request.num_generated == 2
    rows, length = model.rows, len(request.token_ids)
    model.scheduler._preempt(request)
    model.step()
    assert model.rows - rows == length - 60
    # Usage tells what the first admission found, not what the request cached for itself.
    assert request.num_cached == 0


def test_leaves_go_before_their_parents_and_old_documents_before_new_ones() -> None:
    model = _model(blocks=30, max_step_tokens=100)
    pool = model.scheduler.pool
    old, new = [1] * 20, [2] * 20
    _run(model, [make_request(1, [*old, 3, 4, 5, 6], max_tokens=1)])
    _run(model, [make_request(2, [*new, 3, 4, 5, 6], max_tokens=1)])
    _run(model, [make_request(3, [*old, 7, 8, 9, 9], max_tokens=1)])  # the old one is used again
    fresh = pool.num_free - pool.num_cached

    def left(document: list[int]) -> int:
        return len(pool.match([*document, 3, 4, 5, 6, 0], ())[0])

    assert (left(old), left(new)) == (6, 6)
    # The leaf that was used longest ago, then the other document from its end, then the old one.
    gone = []
    pool.allocate(fresh)
    for _ in range(13):
        pool.allocate(1)
        gone.append((left(old), left(new)))
    assert gone[:7] == [(5, 6), (5, 5), (5, 4), (5, 3), (5, 2), (5, 1), (5, 0)]
    assert gone[7:] == [(5, 0), (4, 0), (3, 0), (2, 0), (1, 0), (0, 0)]
