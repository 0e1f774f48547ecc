"""Scheduler: decode first, prompts in chunks, preemption without loss. No model is needed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aquila2_runtime.engine.base import EngineRequest
from aquila2_runtime.engine.handle import Mailbox
from aquila2_runtime.engine.kv_cache import BlockPool
from aquila2_runtime.engine.request import Request, Status
from aquila2_runtime.engine.scheduler import Scheduler
from aquila2_runtime.sampling import SamplingParams


def _request(
    number: int, prompt: list[int], max_tokens: int = 4, read_along: bool = True
) -> Request:
    spec = EngineRequest(
        prompt_token_ids=tuple(prompt),
        params=SamplingParams(),
        max_tokens=max_tokens,
        seed=0,
        stop_ids=frozenset(),
        eos_token_id=0,
        read_along=read_along,
    )
    return Request(number, spec, Mailbox(quiet=False))


def _step(scheduler: Scheduler, made: dict[int, list[int]]) -> list[tuple[int, int, int]]:
    """Run one step of a model whose next id is the position it is at."""
    plan = scheduler.schedule()
    for item in plan:
        samples = item.samples
        scheduler.computed(item)
        if samples:
            request = item.request
            made[request.request_id].append(len(request.token_ids))
            if request.accept(len(request.token_ids), None) is not None:
                scheduler.end(request)
    return [(item.request.request_id, item.start, item.count) for item in plan]


def test_a_long_prompt_is_read_in_chunks_beside_decoding_requests() -> None:
    scheduler = Scheduler(BlockPool(64, 4), max_num_seqs=4, max_step_tokens=8)
    made: dict[int, list[int]] = {1: [], 2: []}
    scheduler.add(_request(1, [1] * 4, max_tokens=6))
    _step(scheduler, made)
    scheduler.add(_request(2, [2] * 20))
    assert _step(scheduler, made) == [(1, 4, 1), (2, 0, 7)]
    assert _step(scheduler, made) == [(1, 5, 1), (2, 7, 7)]
    assert _step(scheduler, made) == [(1, 6, 1), (2, 14, 6)]
    assert made[2] == [20]


def test_chunks_end_with_whole_tiles_and_the_rest_of_one_is_nobody_s() -> None:
    scheduler = Scheduler(BlockPool(64, 4), max_num_seqs=4, max_step_tokens=11, tile=4)
    for number, length in ((1, 5), (2, 21), (3, 8)):
        scheduler.add(_request(number, [number] * length))
    made: dict[int, list[int]] = {1: [], 2: [], 3: []}
    # The second begins behind the first one's five tokens; the third waits for what it leaves.
    assert _step(scheduler, made) == [(1, 0, 5), (2, 0, 4)]
    assert _step(scheduler, made) == [(1, 5, 1), (2, 4, 8)]
    assert _step(scheduler, made) == [(1, 6, 1), (2, 12, 9), (3, 0, 1)]
    assert _step(scheduler, made) == [(1, 7, 1), (2, 21, 1), (3, 1, 7)]


def test_a_budget_below_a_tile_is_used_as_it_is() -> None:
    scheduler = Scheduler(BlockPool(64, 4), max_num_seqs=4, max_step_tokens=6, tile=64)
    scheduler.add(_request(1, [1] * 10))
    assert _step(scheduler, {1: []}) == [(1, 0, 6)]


def test_requests_are_admitted_in_order_of_arrival() -> None:
    scheduler = Scheduler(BlockPool(4, 4), max_num_seqs=4, max_step_tokens=64)
    scheduler.add(_request(1, [1] * 11))
    scheduler.add(_request(2, [2] * 11))
    scheduler.add(_request(3, [3] * 2))
    scheduler.schedule()
    # The third would fit beside the first; overtaking would starve the second.
    assert [request.request_id for request in scheduler.running] == [1]


def test_the_youngest_gives_way_and_finishes_later() -> None:
    pool = BlockPool(6, 2)
    scheduler = Scheduler(pool, max_num_seqs=4, max_step_tokens=64)
    made: dict[int, list[int]] = {1: [], 2: []}
    scheduler.add(_request(1, [1] * 4, max_tokens=6))
    scheduler.add(_request(2, [2] * 4, max_tokens=6))
    for _ in range(40):
        _step(scheduler, made)
    assert scheduler.preemptions > 0
    assert made[1] == made[2] == [4, 5, 6, 7, 8, 9]
    assert pool.num_in_use == 0


@settings(max_examples=150, deadline=None)
@given(
    prompts=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    max_tokens=st.integers(1, 8),
    blocks=st.integers(10, 16),
    budget=st.integers(1, 16),
    prefix_cache=st.booleans(),
)
def test_every_request_gets_each_of_its_tokens_once_however_small_the_pool(
    prompts: list[int], max_tokens: int, blocks: int, budget: int, prefix_cache: bool
) -> None:
    pool = BlockPool(blocks, 2, prefix_cache=prefix_cache)
    scheduler = Scheduler(pool, max_num_seqs=3, max_step_tokens=budget)
    requests = [_request(n, [7] * length, max_tokens) for n, length in enumerate(prompts)]
    made: dict[int, list[int]] = {n: [] for n in range(len(prompts))}
    for request in requests:
        scheduler.add(request)
    for _ in range(2_000):
        if all(request.status is Status.ENDED for request in requests):
            break
        plan = _step(scheduler, made)
        assert plan, "work is waiting and nothing was scheduled"
        assert sum(count for _, _, count in plan) <= max(budget, 3)
    for number, length in enumerate(prompts):
        assert made[number] == list(range(length, length + max_tokens))
    assert pool.num_in_use == 0


def test_prompts_get_less_of_a_step_in_which_others_decode() -> None:
    scheduler = Scheduler(
        BlockPool(64, 4), max_num_seqs=4, max_step_tokens=16, max_prefill_beside_decode=5
    )
    made: dict[int, list[int]] = {1: [], 2: []}
    scheduler.add(_request(1, [1] * 20, max_tokens=3))
    assert _step(scheduler, made) == [(1, 0, 16)]
    scheduler.add(_request(2, [2] * 40, max_tokens=1))
    # Nobody decodes yet: what the first prompt leaves of the step goes to the second.
    assert _step(scheduler, made) == [(1, 16, 4), (2, 0, 12)]
    assert _step(scheduler, made) == [(1, 20, 1), (2, 12, 5)]
    assert _step(scheduler, made) == [(1, 21, 1), (2, 17, 5)]
    assert _step(scheduler, made) == [(2, 22, 16)]


def test_prompts_get_whole_steps_beside_answers_that_nobody_reads_along() -> None:
    scheduler = Scheduler(
        BlockPool(64, 4), max_num_seqs=4, max_step_tokens=16, max_prefill_beside_decode=5
    )
    made: dict[int, list[int]] = {1: [], 2: [], 3: []}
    scheduler.add(_request(1, [1] * 8, max_tokens=9, read_along=False))
    _step(scheduler, made)
    # How the answer to a prompt will be read says nothing about who waits beside it.
    scheduler.add(_request(2, [2] * 26, max_tokens=2))
    assert _step(scheduler, made) == [(1, 8, 1), (2, 0, 15)]
    scheduler.add(_request(3, [3] * 40, max_tokens=1))
    assert _step(scheduler, made) == [(1, 9, 1), (2, 15, 11), (3, 0, 4)]
    # Now somebody reads along.
    assert _step(scheduler, made) == [(1, 10, 1), (2, 26, 1), (3, 4, 5)]
    assert _step(scheduler, made) == [(1, 11, 1), (3, 9, 15)]
