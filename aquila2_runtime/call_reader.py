"""CallReader: one tool call read character by character. It decodes and judges nothing.

Name and arguments are given out while they are written, where the call has the form in which calls
are rendered; a call of another form is whole when it ends.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Final

from aquila2_runtime.tools import CALL_CLOSING

_HEAD: Final = '{"name": "'
_MIDDLE: Final = '", "arguments": '
_BRACKETS: Final = frozenset("{}[]")
# Of single classes, so that they are matched in one go and never tried again.
_IN_STRING: Final = re.compile(r'[^"\\]+')
_BETWEEN: Final = re.compile(r'[^"<{}\[\]]+')
_ELSEWHERE: Final = re.compile(r'[^"<]+')
_MAX_NAME: Final = 64


@dataclasses.dataclass(frozen=True, slots=True)
class ToolCallPiece:
    """A piece of a call while it is written.

    Attributes:
        index: The call's place among the answer's calls.
        name: The tool's name, with the first piece of a call; None with the others.
        arguments: More of the arguments, as JSON text.
    """

    index: int
    name: str | None
    arguments: str


class CallReader:
    """Reads one call, its body up to the closing that stands in no string.

    Args:
        index: Its place among the answer's calls.

    Attributes:
        index: The same.
        name: The tool's name once it is certain; None in a call of another form.
        done: Whether the closing was read.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.name: str | None = None
        self.done = False
        self._parts: list[str] = []
        self._tail = ""  # what the closing may begin with
        self._head: str | None = ""  # while name and arguments are sought in the usual form
        self._quoted = self._escaped = False
        self._depth = 0
        self._over = False  # whether the arguments are complete
        self._arguments: list[str] = []

    @property
    def body(self) -> str:
        """The JSON text so far."""
        return "".join(self._parts)

    @property
    def arguments(self) -> str:
        """The arguments so far, or the body where they have not begun."""
        return "".join(self._arguments) if self.name is not None else self.body

    def feed(self, text: str, pieces: list[ToolCallPiece]) -> str:
        """Read on; return what is behind the call."""
        at = 0
        while at < len(text):
            if not self._quoted and (self._tail or text[at] == "<"):
                self._tail += text[at]
                at += 1
                if self._tail == CALL_CLOSING:
                    self.done = True
                    break
                if not CALL_CLOSING.startswith(self._tail):
                    # It is none. Only its last character can begin one again: no other is a "<".
                    run, self._tail = self._tail[:-1], ""
                    self._take(run, pieces)
                    at -= 1
                continue
            run = self._run(text, at)
            self._take(run, pieces)
            at += len(run)
        return text[at:]

    def _run(self, text: str, at: int) -> str:
        """The next characters that can be taken at once: none of them changes anything."""
        if self._escaped or (self.name is None and self._head is not None):
            return text[at]
        outside = _BETWEEN if self.name is not None and not self._over else _ELSEWHERE
        found = (_IN_STRING if self._quoted else outside).match(text, at)
        return found.group() if found else text[at]

    def _take(self, run: str, pieces: list[ToolCallPiece]) -> None:
        """Add one character of the body, or several that change nothing."""
        self._parts.append(run)
        if self._escaped:
            self._escaped = False
        elif self._quoted and run == "\\":
            self._escaped = True
        elif run == '"':
            self._quoted = not self._quoted
        if self.name is not None:
            self._argue(run, pieces)
        elif self._head is not None:
            self._begin(run, pieces)

    def _begin(self, character: str, pieces: list[ToolCallPiece]) -> None:
        """Read up to the arguments, as long as the body has the usual form."""
        self._head = head = (self._head or "") + character
        if len(head) <= len(_HEAD):
            if not _HEAD.startswith(head):
                self._head = None
            return
        name, quote, rest = head[len(_HEAD) :].partition('"')
        if (
            len(name) > _MAX_NAME
            or "\\" in name
            or (quote and not _MIDDLE.startswith(quote + rest))
        ):
            self._head = None
        elif quote + rest == _MIDDLE:
            self.name = name
            pieces.append(ToolCallPiece(self.index, name, ""))

    def _argue(self, run: str, pieces: list[ToolCallPiece]) -> None:
        """Add more of the arguments; they end with the bracket that closes their first."""
        if self._over:
            return
        self._arguments.append(run)
        pieces.append(ToolCallPiece(self.index, None, run))
        if not self._quoted and run in _BRACKETS:
            self._depth += 1 if run in "{[" else -1
            self._over = self._depth <= 0
