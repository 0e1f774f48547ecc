"""Whether an error of a hub's client means that the hub cannot be reached. It imports no client."""

from __future__ import annotations

from typing import Final

_SERVER_FAULT: Final = 500
# By name: the clients speak through httpx, httpx2 or requests, as their versions have it, and
# ModelScope's has errors of its own. Whatever else happens, a full disk or a bug, is no such thing.
_KINDS: Final = frozenset(
    {
        "ChunkedEncodingError",  # requests: the connection broke
        "ConnectionError",
        "EOFError",  # an answer that ended too early
        "LocalEntryNotFoundError",  # Hugging Face's client, that found no network and no copy
        "ServerError",  # ModelScope's client, after several tries
        "Timeout",
        "TimeoutError",
        "TransportError",
    }
)


def status_of(error: Exception) -> int | None:
    """The status that a hub answered with; None where the error is about no answer."""
    for holder in (getattr(error, "response", None), error):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int):
            return status
    return None


def is_unreachable(error: Exception) -> bool:
    """Whether no answer came, or only that the server failed."""
    status = status_of(error)
    if status is not None:
        return status >= _SERVER_FAULT
    return any(kind.__name__ in _KINDS for kind in type(error).__mro__)
