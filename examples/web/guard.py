"""Guard: which requests reach the page at all. It knows no route.

The page has no password, so it answers only this machine's browsers, and in them only itself. A
foreign site cannot reach it by a name that points here (DNS rebinding): ``Host`` must be this
address. It cannot post to it either (CSRF): ``Origin`` must be this page. Bodies are bounded.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOAD_BYTES = 10 * 1024 * 1024
BODY_BYTES = 512 * 1024
HEADERS = {
    b"content-security-policy": b"default-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class Guard:
    """Refuses what is not this page's own, before anything is read.

    Args:
        app: What to guard.
        port: Where it is served.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"127.0.0.1:{port}".encode(), f"localhost:{port}".encode()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http" or not self._own(scope):
            await JSONResponse({"error": "foreign"}, 403)(scope, receive, send)
            return
        limit = UPLOAD_BYTES if scope["method"] == "PUT" else BODY_BYTES
        if self._announced(scope) > limit:
            await JSONResponse({"error": "too_large"}, 413)(scope, receive, send)
            return
        await self._app(scope, _bounded(receive, limit), _with_headers(send))

    def _own(self, scope: Scope) -> bool:
        """Whether the request comes from this page, or opens it."""
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return False
        reads = scope["method"] in ("GET", "HEAD")
        if reads and not scope["path"].startswith("/api/"):
            return True
        if not set(_values(scope, b"sec-fetch-site")) <= {b"same-origin", b"none"}:
            return False
        origins = _values(scope, b"origin")
        return origins == [b"http://" + hosts[0]] or (reads and not origins)

    def _announced(self, scope: Scope) -> int:
        lengths = _values(scope, b"content-length")
        return int(lengths[0]) if lengths and lengths[0].isdigit() else 0


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _bounded(receive: Receive, limit: int) -> Receive:
    """Count what is sent, for those that announce no length."""
    left = limit

    async def bounded() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, "too_large")
        return message

    return bounded


def _with_headers(send: Send, headers: Mapping[bytes, bytes] = HEADERS) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *headers.items()]
        await send(message)

    return sending
