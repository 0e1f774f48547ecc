"""The address of a server that answers for an engine, checked and in one form. It asks nothing."""

from __future__ import annotations

import os
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
        InvalidLoadOptionError: It is none, or holds more than an address, which is not shown then.
    """
    text = value if isinstance(value, str) and len(value) <= _LONGEST else ""
    if any(mark in text for mark in "@?#"):
        # Not shown: what stands there may be a secret.
        raise InvalidLoadOptionError(
            f"base_url holds a name, a password, a query or a fragment; it must be {_FORM}.",
            parameter="base_url",
            hint=f"Put the server's key into the environment variable {KEY_VARIABLE}.",
        )
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
    return text.rstrip("/")


def server_key() -> str | None:
    """The server's key, as the environment has it.

    Raises:
        InvalidLoadOptionError: It is none that a header can carry.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidLoadOptionError(
            f"{KEY_VARIABLE} must be printable ASCII characters without blanks.",
            parameter=KEY_VARIABLE,
        )
    return key or None
