"""Guesses: what is likely to complete an answer, from what was written last. They check nothing.

A search costs as much as a small model's step. Most of the time the end can be told beforehand: a
value and its brackets close, a character that was begun takes some more bytes, and behind it what
completed the answer before still does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aquila2_runtime.grammar.json_position import INSIDE, OUTSIDE, JsonPosition

# What may be missing of a character in UTF-8: one to three more bytes, of which the first must be
# low behind two of the bytes that begin one.
_MISSING: Final = (b"", b"\xa1", b"\xa1\xa1", b"\xa1\xa1\xa1", b"\x81\xa1", b"\x81\xa1\xa1")
_CONTINUATIONS: Final = bytes(range(0x80, 0xC0))
_CLOSERS: Final = {b"{"[0]: b"}", b"["[0]: b"]"}
_VALUES: Final = (b"0", b'""', b"null", b"[]", b"{}")


def beginnings(written: bytes) -> tuple[bytes, ...]:
    """What may complete the character that the written bytes end in, nothing among it."""
    return _MISSING if written[-1:] >= b"\x80" else _MISSING[:1]


def text_guesses(known: bytes) -> Iterator[bytes]:
    """Yield what may follow in plain text, the shortest first.

    Args:
        known: What completed the answer before.
    """
    rest = known.lstrip(_CONTINUATIONS)
    # Where the pattern counts characters, one has been written.
    yield rest[1:]
    yield rest


def json_guesses(place: JsonPosition) -> Iterator[bytes]:
    """Yield what may complete JSON text whose members are all optional from here on.

    Args:
        place: Where it stands, between characters.
    """
    frames, quote, naming, _, length = place
    closers = b"".join(_CLOSERS[kind] for kind, _, _ in reversed(frames))
    if quote == INSIDE:
        for value in (b"0", b'""') if naming else (b"",):
            yield b'"' + (b": " + value if naming else b"") + closers
    elif quote == OUTSIDE and naming:
        # A longer name than the one before cannot be the same.
        name = b"a" * (len(frames[-1][1]) + 1) if frames else b"a"
        for gap in (b" ", b""):
            yield gap + b'"' + name + b'": 0' + closers
        yield closers
    elif quote == OUTSIDE:
        yield closers
        if length <= 1:  # a space counts
            for value in _VALUES:
                yield b" " + value + closers
                yield value + closers
