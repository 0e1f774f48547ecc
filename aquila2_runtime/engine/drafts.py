"""Drafts: guessed next ids out of a request's own text. It knows no model and no other request.

Answers repeat what they were asked about: a name, a sentence, a table, a line of code. Wherever the
newest ids occurred before, the ids that followed them there are a cheap guess at what comes next
("prompt lookup"). One step then verifies several of them at once, and only what the model would
have chosen anyway is kept, so a bad guess costs time and never changes an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MAX_DRAFTS: Final = 8
# A place counts as the same text when at least this many ids before it agree.
_MIN_MATCH: Final = 2
# Places and ids looked at per lookup: enough to prefer the longest match, cheap at any length.
_MAX_PLACES: Final = 16
_MAX_MATCH: Final = 32
# After drafts that all failed, so many steps pass without any: 1, 2, 4, ... up to this.
_MAX_PAUSE: Final = 32


class Drafter:
    """Proposes ids for one request and learns from what became of them.

    Example:
        >>> Drafter().propose([5, 6, 7, 8, 5, 6], 3)
        [7, 8, 5]
    """

    def __init__(self) -> None:
        self._places: dict[tuple[int, int], list[int]] = {}  # two ids -> where the next one stands
        self._indexed = _MIN_MATCH  # every place below this is in the index
        self._length = MAX_DRAFTS // 2
        self._failures = 0
        self._pause = 0
        self._guess: list[int] = []  # the last proposal, and where it was to stand
        self._guess_at = 0

    def propose(self, ids: Sequence[int], most: int) -> list[int]:
        """Guess what follows; called once a step.

        Args:
            ids: Prompt and answer so far; what was there at the last call only grows.
            most: Most ids that can be used.

        Returns:
            At most ``most`` ids, often none.
        """
        self._index(ids)
        self._judge(ids)
        if self._pause:
            self._pause -= 1
            return []
        most = min(most, self._length)
        place = self._best_place(ids)
        if most < 1 or place is None:
            return []
        drafts: list[int] = []
        for at in range(place, place + most):
            # A match that overlaps the end goes round: its period is what repeats.
            drafts.append(ids[at] if at < len(ids) else drafts[at - len(ids)])
        self._guess, self._guess_at = drafts, len(ids)
        return list(drafts)

    def _judge(self, ids: Sequence[int]) -> None:
        """See what became of the last proposal: more next time, fewer, or a pause."""
        if not self._guess:
            return
        came = ids[self._guess_at : self._guess_at + len(self._guess)]
        right = 0
        while right < len(came) and came[right] == self._guess[right]:
            right += 1
        if right == len(self._guess):
            self._length = min(2 * right, MAX_DRAFTS)
        else:
            self._length = right + 1
        if right:
            self._failures = 0
        else:
            self._pause = min(2**self._failures, _MAX_PAUSE)
            self._failures += 1
        self._guess = []

    def _index(self, ids: Sequence[int]) -> None:
        # The end itself has no continuation yet, so it is no place.
        for place in range(self._indexed, len(ids)):
            self._places.setdefault((ids[place - 2], ids[place - 1]), []).append(place)
        self._indexed = max(self._indexed, len(ids))

    def _best_place(self, ids: Sequence[int]) -> int | None:
        """Where the longest match with the newest ids ends; the latest of equally long ones."""
        if len(ids) < _MIN_MATCH:
            return None
        best, longest = None, 0
        for place in reversed(self._places.get((ids[-2], ids[-1]), [])[-_MAX_PLACES:]):
            length = _MIN_MATCH
            while length < min(place, _MAX_MATCH) and ids[place - 1 - length] == ids[-1 - length]:
                length += 1
            if length > longest:
                best, longest = place, length
        return best
