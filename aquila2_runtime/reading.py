"""Reading: how far the prompts of one call are read, told to whoever asked. It reads nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from aquila2_runtime.load_options import Progress

# Takes in how many tokens of one prompt have been read.
Teller = Callable[[int], None]


class Reading:
    """Adds up the prompt tokens of one call and reports them.

    Reports are made in the thread that reads the answers, so a slow or failing function holds up
    nobody else. A prompt that is read in a single step is not reported.

    Args:
        progress: Called with "prefill", tokens read so far, and tokens in all.
        lengths: Tokens of each prompt.
    """

    def __init__(self, progress: Progress, lengths: Sequence[int]) -> None:
        self._progress = progress
        self._total = sum(lengths)
        self._done = [0] * len(lengths)
        self._told = 0

    def note(self, index: int, done: int) -> None:
        """Take in how many tokens of a prompt have been read."""
        # A request that gave way is read again; what was told once is not taken back.
        self._done[index] = max(self._done[index], done)
        read = sum(self._done)
        if read > self._told and (read < self._total or self._told):
            self._told = read
            self._progress("prefill", read, self._total)


def tellers(progress: Progress | None, lengths: Sequence[int]) -> list[Teller | None]:
    """Make, for each prompt of a call, what takes in how far it is read; None if nobody asked."""
    if progress is None:
        return [None] * len(lengths)
    reading = Reading(progress, lengths)
    return [functools.partial(reading.note, index) for index in range(len(lengths))]
