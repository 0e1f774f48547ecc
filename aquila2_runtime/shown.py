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


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return what another library's error says: its first paragraph and its last, in one line.

    What stands between them repeats the value that was refused.

    Args:
        error: Any error, also one without a word.
        limit: Most characters.
    """
    said = [" ".join(part.split()) for part in str(error).split("\n\n") if part.strip()]
    if not said:
        return type(error).__name__
    # The end of a long first paragraph is less than what the last says.
    last = f" {said[-1]}"[: limit // 2] if len(said) > 1 else ""
    return said[0][: limit - len(last)] + last
