"""JsonPosition: where in a JSON text the next byte stands. It knows no schema and checks nothing.

What is read is known to be valid, so a few bytes decide: it only has to tell strings from the rest,
member names from values, and what is open.
"""

from __future__ import annotations

from typing import Final, NamedTuple

OUTSIDE: Final = 0
INSIDE: Final = 1
ESCAPED: Final = 2

# An open container: its opening bracket, the last member's name, and the items before this one.
Frame = tuple[int, bytes, int]

_QUOTE, _BACKSLASH, _COMMA, _COLON = b'"\\,:'
_OBJECT, _ARRAY = b"{["
_CLOSING: Final = frozenset(b"}]")
_MAX_WORD: Final = 128


class JsonPosition(NamedTuple):
    """A place in a JSON text.

    Attributes:
        frames: What is open, outermost first.
        quote: Outside of strings, inside one, or behind a backslash in one.
        naming: Whether the string here, or the next one, is a member's name.
        word: What has been read of a member's name.
        length: Bytes of the string or scalar so far.
    """

    frames: tuple[Frame, ...] = ()
    quote: int = OUTSIDE
    naming: bool = False
    word: bytes = b""
    length: int = 0

    def after(self, data: bytes) -> JsonPosition:
        """The place behind some more bytes."""
        place = self
        for byte in data:
            place = place._next(byte)
        return place

    def _next(self, byte: int) -> JsonPosition:
        frames, quote, naming, word, length = self
        if quote == OUTSIDE:
            return self._outside(byte)
        if quote == INSIDE and byte == _QUOTE:
            if naming and frames:
                frames = (*frames[:-1], (_OBJECT, word, 0))
            return JsonPosition(frames, OUTSIDE, False, b"", 0)
        escaped = quote == INSIDE and byte == _BACKSLASH
        if naming and len(word) < _MAX_WORD:
            word += bytes((byte,))
        return JsonPosition(frames, ESCAPED if escaped else INSIDE, naming, word, length + 1)

    def _outside(self, byte: int) -> JsonPosition:
        frames, _, naming, _, length = self
        if byte == _QUOTE:
            return JsonPosition(frames, INSIDE, naming, b"", 0)
        if byte in (_OBJECT, _ARRAY):
            return JsonPosition((*frames, (byte, b"", 0)), OUTSIDE, byte == _OBJECT, b"", 0)
        if byte in _CLOSING:
            return JsonPosition(frames[:-1], OUTSIDE, False, b"", 0)
        if byte == _COMMA and frames:
            kind, name, items = frames[-1]
            grown = (*frames[:-1], (kind, name, items + (kind == _ARRAY)))
            return JsonPosition(grown, OUTSIDE, kind == _OBJECT, b"", 0)
        if byte == _COLON:
            return JsonPosition(frames, OUTSIDE, False, b"", 0)
        return JsonPosition(frames, OUTSIDE, naming, b"", length + 1)
