"""Work that several threads do together: every piece once, and one failure for all."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from aquila2_runtime.checkpoint.shared_work import SharedWork

THREADS = 4


def test_every_piece_is_done_once_and_the_end_comes_after_all_of_them() -> None:
    for count in (1, 3, 500):
        done: list[int] = []
        seen: list[int] = []

        def finish(done: list[int] = done, seen: list[int] = seen) -> None:
            seen.append(len(done))

        work = SharedWork(range(count), done.append, finish)
        with ThreadPoolExecutor(THREADS) as pool:
            for joined in [pool.submit(work.join) for _ in range(THREADS)]:
                joined.result(10)
        assert sorted(done) == list(range(count))
        assert seen == [count]


def test_threads_that_come_do_pieces_at_the_same_time() -> None:
    meeting = threading.Barrier(2)

    def meet() -> None:
        meeting.wait(10)

    work = SharedWork(range(2), lambda piece: meet(), lambda: None)
    with ThreadPoolExecutor(2) as pool:
        for joined in [pool.submit(work.join) for _ in range(2)]:
            joined.result(10)
    assert not meeting.broken


@pytest.mark.parametrize("where", ["piece", "end"])
def test_a_failure_is_raised_in_every_thread_and_ends_the_work(where: str) -> None:
    done: list[int] = []

    def do(piece: int) -> None:
        done.append(piece)
        if where == "piece" and piece == 5:
            raise ValueError("5")

    def finish() -> None:
        raise ValueError("5")

    work = SharedWork(range(10_000), do, finish)
    with ThreadPoolExecutor(THREADS) as pool:
        joined = [pool.submit(work.join) for _ in range(THREADS)]
        for future in joined:
            with pytest.raises(ValueError, match="5"):
                future.result(10)
    with pytest.raises(ValueError, match="5"):
        work.join()
    if where == "piece":
        assert len(done) < 10_000
