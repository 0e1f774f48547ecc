"""FreeRuns: block numbers that are free, as runs of consecutive ones. It knows no requests.

A request whose blocks are consecutive is read in place; scattered blocks are read one run after
the other. So blocks are handed out beside what a request has already, and a new request starts
some way behind the last one, which leaves both room to grow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# Blocks left to whoever holds the blocks before a new request's, where there are enough.
GAP: Final = 16


class FreeRuns:
    """A set of numbers, kept as maximal runs.

    Args:
        numbers: Free from the start.
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self._stops: dict[int, int] = {}  # first number -> one behind the last
        self._starts: dict[int, int] = {}  # the other way round
        self._count = 0
        for number in numbers:
            self.add(number)

    def __len__(self) -> int:
        """Free numbers."""
        return self._count

    def add(self, number: int) -> None:
        """Free a number that is not free."""
        start, stop = number, number + 1
        if stop in self._stops:
            stop = self._stops.pop(stop)
        if start in self._starts:
            start = self._starts.pop(start)
        self._stops[start] = stop
        self._starts[stop] = start
        self._count += 1

    def take(self, count: int, after: int | None = None) -> list[int]:
        """Take numbers out, in as few runs as can be.

        Args:
            count: How many; at most as many as there are.
            after: Go on behind this number if those are free.
        """
        taken: list[int] = []
        if after is not None and after + 1 in self._stops:
            stop = self._stops[after + 1]
            taken += self._cut(after + 1, after + 1, min(after + 1 + count, stop))
        while len(taken) < count:
            wanted = count - len(taken)
            start = self._place(wanted)
            stop = self._stops[start]
            first = start + self._gap(start, stop - start - wanted, is_new=after is None)
            taken += self._cut(start, first, min(first + wanted, stop))
        return taken

    def goes_on(self, after: int, most: int) -> bool:
        """Whether the number behind is free, or else a run of ``most`` numbers elsewhere."""
        if after + 1 in self._stops:
            return True
        return any(stop - start >= most for start, stop in self._stops.items())

    def _gap(self, start: int, spare: int, *, is_new: bool) -> int:
        """How far into a run to begin: whoever holds the numbers before it may want to grow."""
        if start == 1 or spare <= 0:
            return 0
        if is_new:
            return min(GAP, spare // 2)
        return GAP if spare >= 2 * GAP else 0

    def _place(self, wanted: int) -> int:
        """Start of the shortest run that leaves room on both sides, or of the longest one."""
        best, longest, best_length, length = -1, -1, 0, 0
        for start, stop in self._stops.items():
            here = stop - start
            if here > length:
                longest, length = start, here
            if here >= wanted + 2 * GAP and (best < 0 or here < best_length):
                best, best_length = start, here
        return best if best >= 0 else longest

    def _cut(self, first: int, start: int, stop: int) -> range:
        """Take ``start`` to ``stop`` out of the run that begins at ``first``."""
        last = self._stops.pop(first)
        del self._starts[last]
        if first < start:
            self._stops[first] = start
            self._starts[start] = first
        if stop < last:
            self._stops[stop] = last
            self._starts[last] = stop
        self._count -= stop - start
        return range(start, stop)
