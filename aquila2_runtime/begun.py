"""Generators that have begun: closing one unread ends its work. It knows no requests.

From Python 3.12 on, a generator that is closed before its first ``next()`` keeps its frame, and
with it whatever was started for it, for as long as somebody refers to it. One that waits at a
``yield`` runs to its end when it is closed, in every Python.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar, cast

Piece = TypeVar("Piece")


def begun(stream: Generator[Piece]) -> Generator[Piece]:
    """Return a generator of the same pieces that lets go of ``stream`` when it is closed unread.

    Args:
        stream: One that has not begun, and that nobody else refers to.
    """
    return at_its_start(_relayed(stream))


def at_its_start(stream: Generator[Piece | None]) -> Generator[Piece]:
    """Bring a generator to its first ``yield``, which gives None and is for nobody."""
    next(stream)
    return cast("Generator[Piece]", stream)


def _relayed(stream: Generator[Piece]) -> Generator[Piece | None]:
    yield None
    yield from stream
