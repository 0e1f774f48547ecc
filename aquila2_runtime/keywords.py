"""Refusing unknown keywords with the nearest known name. It knows nothing of their meaning."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from aquila2_runtime.errors import UnknownParameterError


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the known name most like a misspelt one, or None."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return found[0] if found else None


def reject_unknown(given: Iterable[str], known: Collection[str], where: str) -> None:
    """Raise for the first keyword that is not known.

    Args:
        given: Keywords as the caller wrote them.
        known: Keywords that exist.
        where: What takes them, for the message (for example ``"SamplingParams"``).

    Raises:
        UnknownParameterError: A keyword is not known; the nearest known one is suggested.
    """
    for name in given:
        if name not in known:
            near = nearest(name, known)
            hint = f"Did you mean {near!r}?" if near else f"Known: {', '.join(sorted(known))}."
            raise UnknownParameterError(
                f"{where} has no parameter {name!r}.", parameter=name, hint=hint
            )
