"""Guard: who may ask, and how much, before anything of a request is looked at.

It is an ASGI application around another one, and knows nothing of models.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers

from aquila2_runtime.server.failures import failed
from aquila2_runtime.server.settings import LOCAL_NAMES, ServerSettings, is_local

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN: Final = "/health"  # for whoever watches the server, who has no key


class Guard:
    """Refuses strangers, and bodies that are too large or too slow.

    Args:
        app: What it guards.
        settings: Who may ask, and how much.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings
        self._expected = (
            None if settings.api_key is None else f"Bearer {settings.api_key}".encode("ascii")
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or hand it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        refused = self._stranger(scope)
        body = b""
        if refused is None:
            try:
                async with asyncio.timeout(self._settings.body_seconds):
                    found = await self._body(scope, receive)
            except TimeoutError:
                seconds = self._settings.body_seconds
                refused = failed(f"The body did not come within {seconds:g} seconds.", 408)
            else:
                if found is None:
                    return  # the client has gone
                body, refused = found
        if refused is not None:
            await refused(scope, receive, send)
            return
        await self._app(scope, _replayed(body, receive), send)

    def _stranger(self, scope: Scope) -> Response | None:
        """Refuse by what the headers say."""
        headers = Headers(scope=scope)
        host = _name(headers.get("host", ""))
        if not self._is_called(host):
            return failed(f"This server is not called {host[:100]!r}.", 403, "host")
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in self._settings.origins:
            return failed(f"Pages of {origin[:100]!r} may not ask this server.", 403, "origin")
        if self._expected is None or scope["path"] == OPEN:
            return None
        given = headers.get("authorization", "").encode("latin-1", "replace")
        scheme, _, key = given.partition(b" ")
        if not hmac.compare_digest(scheme.capitalize() + b" " + key.strip(), self._expected):
            return failed(
                "The API key is wrong or missing: send it as 'Authorization: Bearer KEY'.",
                401,
                code="invalid_api_key",
            )
        return None

    def _is_called(self, host: str) -> bool:
        hosts = self._settings.hosts
        if hosts is None or host in hosts:
            return True
        # All loopback addresses name this machine.
        return set(LOCAL_NAMES) <= set(hosts) and is_local(host)

    async def _body(self, scope: Scope, receive: Receive) -> tuple[bytes, Response | None] | None:
        """Read the body as far as it may go; None where the client left."""
        most = self._settings.max_body_bytes
        too_large = failed(f"The body has more than {most} bytes.", 413)
        told = Headers(scope=scope).get("content-length", "0")
        if told.isdecimal() and int(told) > most:
            return b"", too_large
        pieces, size = list[bytes](), 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > most:
                return b"", too_large
            if not message.get("more_body", False):
                return b"".join(pieces), None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read already, and then what comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _name(host: str) -> str:
    """A Host header without its port."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name
