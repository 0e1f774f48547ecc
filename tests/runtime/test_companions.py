"""Companions: requests made one by one begin in one step; who does not come holds nobody up."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

import pytest

from aquila2_runtime import Aquila2Runtime, Message, RequestOutput, SamplingParams, companions
from aquila2_runtime.companions import Companions, announced, announcing
from tests.runtime.support import ask, idle, wait_until

FOUR = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines wait for companions longer than any test takes."""
    monkeypatch.setattr(companions, "PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(companions, "MOST_SECONDS", 60.0)


def _in_thread(
    pool: ThreadPoolExecutor, runtime: Aquila2Runtime, index: int, params: SamplingParams = FOUR
) -> Future[RequestOutput]:
    """Ask in a thread that has a copy of this context, as frameworks do."""
    return pool.submit(copy_context().run, runtime.chat, ask(index), params)


def test_the_last_one_is_waited_for_by_nobody() -> None:
    three = Companions(3)
    assert [three.arrive() > 0 for _ in range(4)] == [True, True, False, False]


def test_those_that_are_added_are_waited_for() -> None:
    two = Companions(2)
    two.add(1)
    assert [two.arrive() > 0 for _ in range(3)] == [True, True, False]


def test_there_is_an_end_to_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companions, "MOST_SECONDS", 0.0)
    assert Companions(3).arrive() == 0


def test_a_lone_request_belongs_to_those_announced_around_it() -> None:
    with announcing(2):
        outer = announced()
        with announcing(1):
            assert announced() is outer
        with announcing(3):
            assert announced() is not outer
        assert announced() is outer is not None
    assert announced() is None


@pytest.mark.usefixtures("patient")
def test_the_first_waits_for_the_second_and_both_begin_in_one_step(
    demo_runtime: Aquila2Runtime,
) -> None:
    assert wait_until(lambda: idle(demo_runtime))
    before = demo_runtime.stats()
    with ThreadPoolExecutor(2) as pool, announcing(2):
        first = _in_thread(pool, demo_runtime, 0)
        assert not wait_until(first.done, 0.3)
        second = _in_thread(pool, demo_runtime, 1)
        assert first.result().token_ids
        assert second.result().token_ids
    after = demo_runtime.stats()
    assert after.steps - before.steps == 4
    assert after.decode_rows - before.decode_rows == 2 * (after.decode_steps - before.decode_steps)


@pytest.mark.usefixtures("patient")
def test_every_one_of_n_answers_is_a_companion(demo_runtime: Aquila2Runtime) -> None:
    assert wait_until(lambda: idle(demo_runtime))
    before, two = demo_runtime.stats().steps, FOUR.replace(n=2)
    with ThreadPoolExecutor(2) as pool, announcing(2):
        asked = [_in_thread(pool, demo_runtime, index, two) for index in range(2)]
        assert [len(one.result().choices) for one in asked] == [2, 2]
    assert demo_runtime.stats().steps - before == 4


def test_who_never_comes_holds_nobody_up(demo_runtime: Aquila2Runtime) -> None:
    with announcing(2):
        assert demo_runtime.chat(ask(0), FOUR).token_ids


@pytest.mark.usefixtures("patient")
def test_a_request_of_somebody_else_is_not_held_up(demo_runtime: Aquila2Runtime) -> None:
    with ThreadPoolExecutor(1) as pool:
        with announcing(2):
            held = _in_thread(pool, demo_runtime, 0)
            assert not wait_until(held.done, 0.3)
        assert demo_runtime.chat(ask(1), FOUR).token_ids
        assert held.result().token_ids


@pytest.mark.usefixtures("patient")
def test_an_engine_that_is_at_work_waits_for_nobody(demo_runtime: Aquila2Runtime) -> None:
    many = SamplingParams(temperature=0, max_tokens=1_000, ignore_eos=True)
    stream = demo_runtime.stream_chat(ask(2), many)
    try:
        next(stream)
        with announcing(2):
            assert demo_runtime.chat(ask(0), FOUR).token_ids
    finally:
        stream.close()


@pytest.mark.usefixtures("patient")
def test_one_that_waits_can_be_given_up_and_its_engine_closed(own_demo: dict[str, str]) -> None:
    runtime = Aquila2Runtime.load(**own_demo)
    with announcing(3):
        stream = runtime.stream_chat([Message("user", "Hello!")], FOUR)
        stream.close()
        ended = threading.Thread(target=runtime.close)
        ended.start()
        ended.join(20)
    assert not ended.is_alive()
