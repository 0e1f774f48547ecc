"""The one check that text is text: no lone surrogates. It knows neither messages nor tokens."""

from __future__ import annotations

from aquila2_runtime.errors import InvalidPromptError


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
        raise InvalidPromptError(
            f"{parameter} has a lone surrogate (U+{ord(text[error.start]):04X}) at position "
            f"{error.start}, which no encoding can carry.",
            parameter=parameter,
            value=error.start,
            hint="Decode the source as UTF-16, or replace it: "
            'text.encode("utf-8", "replace").decode().',
        ) from None
    return text
