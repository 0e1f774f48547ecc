"""StopChecker: stop strings in text that comes in pieces. It knows neither tokens nor requests."""

from __future__ import annotations

from collections.abc import Sequence

from aquila2_runtime.errors import InvalidSamplingParamsError


class StopChecker:
    """Finds the first stop string, holding back only what may still become one.

    Of several stop strings the one that ends first counts; of those that end at the same place,
    the first in the list. What is held back is the longest end of the text that is a proper prefix
    of a stop string. Each character costs the same, however many stop strings there are: they are
    searched for at once, by the automaton of Aho and Corasick (1975).

    Args:
        stops: The stop strings, none empty.
        include: Whether the stop string itself belongs to the text.

    Raises:
        InvalidSamplingParamsError: A stop string is empty.
    """

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        self._stops = tuple(stops)
        self._include = include
        self._state = 0
        self._held = ""  # not given out: it may be the start of a stop string
        self._matched: str | None = None
        # One node for each prefix: its children, its longest proper suffix that is a prefix too,
        # its length, the stop string that ends in it, and how much of it can still grow.
        self._children: list[dict[str, int]] = [{}]
        self._suffix = [0]
        self._depth = [0]
        self._complete: list[int | None] = [None]
        self._growing = [0]
        for place, stop in enumerate(self._stops):
            self._insert(place, stop)
        self._link()

    def feed(self, text: str, *, allow_stop: bool = True) -> tuple[str, str | None]:
        """Take the next piece; return what may be shown, and the stop string if one is complete.

        After a stop string nothing more is shown.

        Args:
            text: The next piece, of any length.
            allow_stop: Whether a stop string that ends in this piece counts. One that does not is
                text like any other, but one that only begins here may end the text later.
        """
        if self._matched is not None:
            return "", self._matched
        if not self._stops:
            return text, None
        for position, character in enumerate(text):
            self._state = self._next(character)
            place = self._complete[self._state]
            if place is not None and allow_stop:
                return self._end(self._held + text[: position + 1], self._stops[place])
        pending = self._held + text
        split = len(pending) - self._growing[self._state]
        shown, self._held = pending[:split], pending[split:]
        return shown, None

    def flush(self) -> str:
        """Return what was held back, once it is certain that no more text comes."""
        shown, self._held = self._held, ""
        self._state = 0
        return shown

    def _end(self, pending: str, stop: str) -> tuple[str, str]:
        self._matched, self._held = stop, ""
        return (pending if self._include else pending[: len(pending) - len(stop)]), stop

    def _next(self, character: str) -> int:
        node = self._state
        while node and character not in self._children[node]:
            node = self._suffix[node]
        return self._children[node].get(character, 0)

    def _insert(self, place: int, stop: str) -> None:
        if not stop:
            raise InvalidSamplingParamsError(
                "A stop string must not be empty.", parameter="stop", value=stop
            )
        node = 0
        for character in stop:
            child = self._children[node].get(character)
            if child is None:
                child = len(self._children)
                self._children[node][character] = child
                self._children.append({})
                self._suffix.append(0)
                self._depth.append(self._depth[node] + 1)
                self._complete.append(None)
                self._growing.append(0)
            node = child
        if self._complete[node] is None:
            self._complete[node] = place

    def _link(self) -> None:
        """Fill in suffixes, breadth first: a node's suffix is shorter than the node."""
        queue = [0]
        for node in queue:
            suffix = self._suffix[node]
            self._growing[node] = (
                self._depth[node] if self._children[node] else self._growing[suffix]
            )
            if suffix:
                places = (self._complete[node], self._complete[suffix])
                self._complete[node] = min((p for p in places if p is not None), default=None)
            for character, child in self._children[node].items():
                self._suffix[child] = self._suffix_of(node, character)
                queue.append(child)

    def _suffix_of(self, parent: int, character: str) -> int:
        node = parent
        while node:
            node = self._suffix[node]
            found = self._children[node].get(character)
            if found is not None:
                return found
        return 0
