"""StandingRows: tables that are kept are those that would be made anew."""

from __future__ import annotations

import random

import torch

from aquila2_runtime.engine.standing_rows import StandingRows

SIZE = 4


def _check(standing: StandingRows, lists: list[list[int]], starts: list[int]) -> bool:
    blocks, lengths, follows = standing.advance(list(lists), list(starts))
    assert lengths.tolist() == [start + 1 for start in starts]
    assert lengths.dtype == torch.int32
    for row, (own, start) in enumerate(zip(lists, starts, strict=True)):
        seen = start // SIZE + 1
        assert blocks[row, :seen].tolist() == own[:seen]
        assert not blocks[row, seen:].any()
    return follows


def test_rows_that_go_on_are_told_from_others() -> None:
    standing, lists = StandingRows(SIZE), [[3, 4, 5], [8, 9, 7]]
    assert not _check(standing, lists, [5, 2])
    assert _check(standing, lists, [6, 3])
    assert _check(standing, lists, [7, 4])
    assert not _check(standing, lists, [8, 4])  # one stands still
    assert not _check(standing, lists[::-1], [5, 9])  # they changed places
    assert not _check(standing, [[9, 8, 7], lists[0]], [6, 10])  # another list in its place
    assert not _check(standing, lists[:1], [11])  # one ended
    standing.forget()
    assert not _check(standing, lists[:1], [11])


def test_a_long_run_with_rows_that_come_and_go() -> None:
    rng, standing = random.Random(0), StandingRows(SIZE)
    free = iter(range(1, 10**6))
    lists: list[list[int]] = []
    starts: list[int] = []
    followed = 0
    for _ in range(400):
        changed = rng.random() < 0.1 or not lists
        if changed:
            for row in reversed(range(len(lists))):
                if rng.random() < 0.5:
                    del lists[row], starts[row]
            lists.append([next(free) for _ in range(rng.randrange(1, 30))])
            starts.append(len(lists[-1]) * SIZE - 1)
        for own, start in zip(lists, starts, strict=True):
            while len(own) * SIZE <= start:
                own.append(next(free))  # in place, as the scheduler does
        follows = _check(standing, lists, starts)
        assert follows is not changed
        followed += follows
        starts = [start + 1 for start in starts]
    assert followed > 300
