"""IncrementalDetokenizer and StopChecker: ids to text as they come. They never see the prompt."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aquila2_runtime.tokenizer import Aquila2Tokenizer


class IncrementalDetokenizer:
    """Joins the bytes of ids into text, never giving out half a character.

    Joined, what ``add`` and ``finish`` return equals ``tokenizer.decode`` of the same ids. At most
    three bytes are held back, the most a UTF-8 character can lack; bytes that are no text come
    out as U+FFFD at once.

    Args:
        tokenizer: Of the checkpoint.
    """

    def __init__(self, tokenizer: Aquila2Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token_id: int) -> str:
        """Return the text that became complete with this id."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """Return what a character cut off at the end leaves; nothing may be added afterwards."""
        return self._decoder.decode(b"", final=True)


class StopChecker:
    """Finds the first stop string in text that comes in pieces, holding back only what may be one.

    Of several stop strings the one that ends first counts; of those that end together, the first
    in the list.

    Args:
        stops: The stop strings, none empty.
        include: Whether the stop string itself belongs to the text.
    """

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        self._stops = tuple(stops)
        self._include = include
        self._longest = max((len(stop) for stop in self._stops), default=0)
        self._held = ""  # text not given out: the start of what may become a stop string

    def feed(self, text: str, *, allow_stop: bool = True) -> tuple[str, str | None]:
        """Take text; return what may be shown, and the stop string if one is complete.

        Args:
            text: The next piece.
            allow_stop: Whether a stop string completed by this piece ends the text; if not, the
                text passes and nothing that came with it ends it later.
        """
        if not self._stops:
            return text, None
        self._held += text
        if not allow_stop:
            shown, self._held = self._held, ""
            return shown, None
        found = self._find()
        if found is not None:
            start, stop = found
            end = start + len(stop) if self._include else start
            shown, self._held = self._held[:end], ""
            return shown, stop
        keep = self._pending()
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return shown, None

    def flush(self) -> str:
        """Return what was held back, once it is certain that no more text comes."""
        shown, self._held = self._held, ""
        return shown

    def _find(self) -> tuple[int, str] | None:
        best: tuple[int, int, int] | None = None  # end, place in the list, start
        for place, stop in enumerate(self._stops):
            start = self._held.find(stop)
            if start >= 0:
                candidate = (start + len(stop), place, start)
                if best is None or candidate < best:
                    best = candidate
        return None if best is None else (best[2], self._stops[best[1]])

    def _pending(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        for length in range(min(self._longest - 1, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0
