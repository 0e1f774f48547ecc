"""How a refused value is spelled in an error's message. It knows nothing of why it was refused."""

from __future__ import annotations

import reprlib
from typing import Final

# Looks only at the beginning of long values and of deep ones, whatever their own repr would do.
_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


def shown(value: object, limit: int = 80) -> str:
    """Return the beginning of a value's repr; never raises and never takes long.

    Args:
        value: Anything: a caller may have given a list of a million items, an integer of a
            million digits, or an object whose repr raises.
        limit: Most characters.
    """
    try:
        text = _SHORT.repr(value)
    except Exception:  # an integer of more digits than Python spells, a repr inside a list
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."
