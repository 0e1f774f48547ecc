"""The address of a server that answers for an engine, checked and in one form. It asks nothing."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from aquila2_runtime.errors import InvalidLoadOptionError
from aquila2_runtime.shown import shown

KEY_VARIABLE: Final = "AQUILA2_REMOTE_API_KEY"
"""Where the server's key is read from: options are shown, compared and pickled."""
_LONGEST: Final = 2_000
_FORM: Final = 'an address such as "http://host:8000/v1"'


def server_address(value: object) -> str:
    """Return an address without a slash at its end.

    Raises:
        InvalidLoadOptionError: It is none, or holds a name and password, which would be shown.
    """
    text = value if isinstance(value, str) and len(value) <= _LONGEST else ""
    try:
        parts = urlsplit(text)
        well = parts.scheme in ("http", "https") and bool(parts.hostname)
        port = parts.port
    except ValueError:
        well, port = False, None
    if not well or port == 0 or not text.isprintable() or " " in text:
        raise InvalidLoadOptionError(
            f"base_url={shown(value)} is not valid; it must be {_FORM}.",
            parameter="base_url",
            value=value,
        )
    if "@" in parts.netloc:
        raise InvalidLoadOptionError(
            "base_url holds a name or password, which would be shown with it.",
            parameter="base_url",
            hint=f"Put the server's key into the environment variable {KEY_VARIABLE}.",
        )
    if parts.query or parts.fragment:
        raise InvalidLoadOptionError(
            f"base_url={shown(value)} has a query or a fragment; it must be {_FORM}.",
            parameter="base_url",
            value=value,
        )
    return text.rstrip("/")
