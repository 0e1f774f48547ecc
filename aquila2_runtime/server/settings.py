"""ServerSettings: who may ask the server, under which name, and how much. It answers nothing."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from typing import Final, NoReturn

from aquila2_runtime.errors import InvalidRequestError
from aquila2_runtime.shown import shown

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
_SHORTEST_KEY: Final = 8
# "null" is what pages send that were opened as files.
_ORIGIN: Final = re.compile(r"null|[a-z][a-z0-9+.-]*://[^\s/?#@*,]+")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a server treats those who ask.

    Attributes:
        api_key: What ``Authorization: Bearer`` must carry on every route but ``/health``; None
            asks for none.
        served_name: What requests call the model; None is the checkpoint's own name.
        hosts: Names that the Host header may have, so that a page of another site cannot reach a
            local server under a name of its own (DNS rebinding); None allows every name.
        origins: Sites whose pages may ask, as ``https://example.org``, by CORS; none by default.
        max_body_bytes: The largest body that is read.
        body_seconds: Seconds in which a body must have come.
        ping_seconds: After so long without a token a stream says that it is still there.

    Raises:
        InvalidRequestError: A value has a wrong type or lies outside its range.
    """

    api_key: str | None = None
    served_name: str | None = None
    hosts: tuple[str, ...] | None = LOCAL_NAMES
    origins: tuple[str, ...] = ()
    max_body_bytes: int = 8 * 2**20
    body_seconds: float = 30.0
    ping_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Check every field."""
        if self.api_key is not None and not _is_key(self.api_key):
            raise InvalidRequestError(
                f"api_key must be {_SHORTEST_KEY} printable ASCII characters or more, no blanks.",
                parameter="api_key",
            )
        if self.served_name is not None and not (
            isinstance(self.served_name, str) and 0 < len(self.served_name) <= 256
        ):
            _fail("served_name", self.served_name, "1 to 256 characters or None")
        if self.hosts is not None:
            object.__setattr__(self, "hosts", _names("hosts", self.hosts))
        object.__setattr__(self, "origins", _names("origins", self.origins))
        for origin in self.origins:
            # What browsers send has neither path nor slash: anything else would never be met.
            if not _ORIGIN.fullmatch(origin):
                _fail("origins", origin, "sites like https://example.org, without a path")
        for name in ("max_body_bytes", "body_seconds", "ping_seconds"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number and 0 < value < 1e9):
                _fail(name, value, "a positive number")

    def check_address(self, host: str) -> None:
        """Refuse to be reached from other machines by everybody.

        Args:
            host: Address or name that will be listened on.

        Raises:
            InvalidRequestError: It is not this machine's own, and there is no key.
        """
        if self.api_key is None and not is_local(host):
            raise InvalidRequestError(
                f"host={shown(host)} can be reached from other machines, and there is no API key.",
                parameter="api_key",
                value=host,
                hint="Set AQUILA2_API_KEY, or listen on 127.0.0.1.",
            )


def is_local(host: str) -> bool:
    """Return whether an address or name is one of this machine alone."""
    if host in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_key(key: object) -> bool:
    return (
        isinstance(key, str)
        and len(key) >= _SHORTEST_KEY
        and key.isascii()
        and key.isprintable()
        and " " not in key
    )


def _names(field: str, values: object) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, (tuple, list)):
        _fail(field, values, "a list of strings")
    if not all(isinstance(value, str) and value for value in values):
        _fail(field, values, "a list of strings")
    return tuple(value.lower() for value in values)


def _fail(name: str, value: object, allowed: str) -> NoReturn:
    raise InvalidRequestError(
        f"{name}={shown(value)} is not valid; it must be {allowed}.", parameter=name, value=value
    )
