"""ToolCallParser: an answer's text into content and calls, piece by piece. It enforces nothing.

It scans every character once and decodes with ``json`` alone. Content is the text before the first
call, less the one line break that separates them; a piece of a call's opening is never given out
as content, and a finished answer's pieces joined are its content and its calls' arguments.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any, Final

from aquila2_runtime.call_reader import CallReader, ToolCallPiece
from aquila2_runtime.tools import CALL_OPENING, ToolCall

__all__ = ["InvalidToolCall", "Parsed", "ToolCallParser", "ToolCallPiece", "parse_calls"]

_MAX_NESTING: Final = 200


@dataclasses.dataclass(frozen=True, slots=True)
class InvalidToolCall:
    """A call that could not be used.

    Attributes:
        name: The tool's name as written; None if there is none.
        arguments: The arguments as written, or all of the call where none were found.
        error: What is wrong, in one sentence.
    """

    name: str | None
    arguments: str
    error: str


@dataclasses.dataclass(frozen=True, slots=True)
class Parsed:
    """What became certain with some text.

    Attributes:
        content: More content.
        pieces: More of the calls.
    """

    content: str = ""
    pieces: tuple[ToolCallPiece, ...] = ()


class ToolCallParser:
    """Reads one answer.

    Args:
        names: Of the tools that may be called; None accepts every name.
        leading: Whether calls can only stand at the head: then other text holds none, whatever
            its strings spell.

    Attributes:
        calls: The calls read so far.
        invalid: What looks like calls and is none.
    """

    def __init__(self, names: Sequence[str] | None = None, *, leading: bool = False) -> None:
        self.calls: list[ToolCall] = []
        self.invalid: list[InvalidToolCall] = []
        self._names = None if names is None else frozenset(names)
        self._content: list[str] = []
        self._held = ""  # of the content: a line break or an opening may begin here
        self._between = False  # behind a call
        self._call: CallReader | None = None
        self._count = 0
        self._leading = leading
        self._plain = False  # it is known that there are no calls

    @property
    def content(self) -> str:
        """The content so far."""
        return "".join(self._content)

    @property
    def in_calls(self) -> bool:
        """Whether a call has begun."""
        return self._count > 0

    def feed(self, text: str) -> Parsed:
        """Take more text; return what became certain."""
        content: list[str] = []
        pieces: list[ToolCallPiece] = []
        while text:
            if self._call is None:
                text = self._outside(text, content)
            else:
                text = self._call.feed(text, pieces)
                if self._call.done:
                    self._end(self._call, pieces)
        return self._parsed(content, pieces)

    def finish(self) -> Parsed:
        """Say that no more text comes; a call that is not complete is invalid then."""
        content: list[str] = []
        pieces: list[ToolCallPiece] = []
        if self._call is not None:
            self._end(self._call, pieces)
        elif not self._between:
            content.append(self._held)
        self._held = ""
        return self._parsed(content, pieces)

    def _parsed(self, content: list[str], pieces: list[ToolCallPiece]) -> Parsed:
        joined = "".join(content)
        if joined:
            self._content.append(joined)
        return Parsed(joined, _joined(pieces))

    def _outside(self, text: str, content: list[str]) -> str:
        """Read content up to an opening; return what is left of the text."""
        seen = self._held + text
        if self._leading and not self._count and not CALL_OPENING.startswith(
            seen[: len(CALL_OPENING)]
        ):  # fmt: skip
            self._plain = True
        if self._plain:
            self._held = ""
            content.append(seen)
            return ""
        at = seen.find(CALL_OPENING)
        if at >= 0:
            before = seen[:at].removesuffix("\n")
            self._held = ""
            self._call = CallReader(self._count)
            self._count += 1
            rest = seen[at + len(CALL_OPENING) :]
        else:
            keep = _held_back(seen)
            before, self._held, rest = seen[: len(seen) - keep], seen[len(seen) - keep :], ""
        if not self._between:
            content.append(before)
        return rest

    def _end(self, call: CallReader, pieces: list[ToolCallPiece]) -> None:
        """Judge a call that ended."""
        self._call = None
        self._between = True
        body = call.body
        if not call.done:
            name = call.name
            self.invalid.append(InvalidToolCall(name, call.arguments, "The call is incomplete."))
            return
        found = _decode(body, self._names)
        if isinstance(found, InvalidToolCall):
            self.invalid.append(found)
            return
        self.calls.append(found)
        if call.name is None:
            arguments = json.dumps(dict(found.arguments), ensure_ascii=False)
            pieces.append(ToolCallPiece(call.index, found.name, arguments))


def parse_calls(
    text: str, names: Sequence[str] | None = None
) -> tuple[str, tuple[ToolCall, ...], tuple[InvalidToolCall, ...]]:
    """Split a whole answer into content, calls and what looks like calls and is none."""
    parser = ToolCallParser(names)
    parser.feed(text)
    parser.finish()
    return parser.content, tuple(parser.calls), tuple(parser.invalid)


def _decode(body: str, names: frozenset[str] | None) -> ToolCall | InvalidToolCall:
    """A call from its JSON text."""
    try:
        if _nesting(body) > _MAX_NESTING:
            return InvalidToolCall(None, body, "The call is nested too deeply.")
        value: Any = json.loads(body, parse_float=_finite, parse_constant=_refuse_constant)
    except ValueError as error:
        return InvalidToolCall(None, body, f"The call is no JSON: {error}.")
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str):
        return InvalidToolCall(None, body, "The call names no tool.")
    arguments = value.get("arguments", {})
    if not isinstance(arguments, dict):
        return InvalidToolCall(name, json.dumps(arguments), "The arguments are no object.")
    if names is not None and name not in names:
        written = json.dumps(arguments, ensure_ascii=False)
        return InvalidToolCall(name, written, f"There is no tool {name!r:.80}.")
    return ToolCall(name, arguments)


def _finite(digits: str) -> float:
    """Read a number; one beyond all that Python has, such as 1e999, is the largest of those."""
    return max(-sys.float_info.max, min(sys.float_info.max, float(digits)))


def _refuse_constant(name: str) -> Any:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _nesting(text: str) -> int:
    """The most brackets open at once, those in strings counted too."""
    deepest = depth = 0
    for character in text:
        depth += (character in "{[") - (character in "}]")
        deepest = max(deepest, depth)
    return deepest


def _held_back(text: str) -> int:
    """Characters at a text's end that a line break and an opening may begin with."""
    for length in range(min(len(text), len(CALL_OPENING) - 1), 0, -1):
        if CALL_OPENING.startswith(text[-length:]):
            return length + text[:-length].endswith("\n")
    return int(text.endswith("\n"))


def _joined(pieces: list[ToolCallPiece]) -> tuple[ToolCallPiece, ...]:
    """Pieces of the same call as one."""
    joined: list[ToolCallPiece] = []
    texts: list[list[str]] = []
    for piece in pieces:
        if joined and joined[-1].index == piece.index and piece.name is None:
            texts[-1].append(piece.arguments)
        else:
            joined.append(piece)
            texts.append([piece.arguments])
    return tuple(
        dataclasses.replace(piece, arguments="".join(own))
        for piece, own in zip(joined, texts, strict=True)
    )
