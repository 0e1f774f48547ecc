"""Control and Text: what a rendered prompt is made of. They know neither templates nor ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator


@dataclasses.dataclass(frozen=True, slots=True)
class Control:
    """A control token, by its spelling. Only templates make these; text never becomes one."""

    token: str


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """Text; it yields no control id, whatever it spells."""

    text: str


Part = Control | Text


def join_text(parts: Iterable[Part]) -> Iterator[Part]:
    """Yield the parts with neighbouring texts joined and empty texts left out.

    Byte-pair encoding merges across the borders of parts, so ids equal those of the whole prompt
    only when neighbouring texts are encoded as one.
    """
    pending: list[str] = []
    for part in parts:
        if isinstance(part, Text):
            pending.append(part.text)
            continue
        joined = "".join(pending)
        if joined:
            yield Text(joined)
        pending.clear()
        yield part
    joined = "".join(pending)
    if joined:
        yield Text(joined)
