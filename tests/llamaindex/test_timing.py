"""The suite's clock: it sees a loop that is held up by whatever means, and takes the best try."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from llamaindex_aquila2.conformance.timing import Watch, least, longest_pause

HELD = 0.08


def sleeping() -> None:
    time.sleep(HELD)


def computing() -> None:
    until = time.thread_time() + HELD
    while time.thread_time() < until:
        pass


def waiting() -> None:
    lock = threading.Lock()
    with lock:
        lock.acquire(timeout=HELD)


@pytest.mark.parametrize("hold_up", [sleeping, computing, waiting])
def test_c6_a_loop_that_is_held_up_is_seen(hold_up: Callable[[], None]) -> None:
    """Whether it sleeps, computes or waits for a lock; beside a loop that is free."""

    async def blocked() -> None:
        hold_up()

    async def free() -> None:
        await asyncio.to_thread(hold_up)

    async def run(work: Awaitable[None]) -> float:
        return await longest_pause(work)

    assert asyncio.run(run(blocked())) >= HELD * 0.9
    assert least(lambda: asyncio.run(run(free())), HELD / 2) <= HELD / 2


def test_a_pause_ends_with_the_work_also_where_that_fails() -> None:
    async def failing() -> None:
        raise ZeroDivisionError

    async def run() -> float:
        return await longest_pause(failing())

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())


def test_the_least_of_three_counts_and_no_more_are_made_than_it_takes() -> None:
    tries = iter([5.0, 3.0, 4.0, 1.0])
    assert least(lambda: next(tries), 2.0) == 3.0
    assert least(lambda: next(tries), 2.0) == 1.0


def test_a_watch_works_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaindex_aquila2.conformance.timing._SCHEDULER", "/nowhere")
    watch = Watch()
    time.sleep(0.01)
    assert watch.lap() >= 0.01
    watch.close()
