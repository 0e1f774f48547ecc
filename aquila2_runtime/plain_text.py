"""The one check that text is text: no lone surrogates. It knows neither messages nor tokens."""

from __future__ import annotations

from typing import Final

from aquila2_runtime.errors import InvalidPromptError

# How Python carries bytes it could not decode ("surrogateescape"): arguments, file names, input.
_BYTES: Final = range(0xDC80, 0xDD00)


def check_text(text: object, parameter: str) -> str:
    """Return the text if it can be written as UTF-8.

    Args:
        text: What should be a string.
        parameter: What it is called, for the message.

    Raises:
        InvalidPromptError: It is no string, or holds half of a surrogate pair; the message names
            the position and never the text.
    """
    if not isinstance(text, str):
        raise InvalidPromptError(
            f"{parameter} must be a string, not {type(text).__name__}.", parameter=parameter
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise InvalidPromptError(
            f"{parameter} has a lone surrogate (U+{code:04X}) at position "
            f"{error.start}, which no encoding can carry.",
            parameter=parameter,
            value=error.start,
            hint=_remedy(code),
        ) from None
    return text


def _remedy(code: int) -> str:
    if _BYTES.start <= code < _BYTES.stop:
        return (
            f"It stands for the byte 0x{code - 0xDC00:02X}, which was no text in the encoding that "
            "was expected. Read the source in its own encoding, or as UTF-8 (PYTHONUTF8=1)."
        )
    return 'Decode the source as UTF-16, or replace it: text.encode("utf-8", "replace").decode().'
