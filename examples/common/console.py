"""Questions as they are typed, one a line. It knows no model."""

from __future__ import annotations

from collections.abc import Iterator


def typed() -> Iterator[str]:
    """Give each question; an empty line or the end of the input ends them."""
    while True:
        try:
            question = input("? ")
        except EOFError:
            return
        if not question.strip():
            return
        yield question
