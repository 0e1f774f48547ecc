"""A server's body as it comes: lines and server-sent events, within bounds. It reads no JSON."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Final

from aquila2_runtime.engine.openai_wire import KNOWN_SERVERS
from aquila2_runtime.errors import ServerError

if TYPE_CHECKING:
    import httpx

_EVENT: Final = "data:"
_LAST: Final = "[DONE]"
_PLAIN: Final = ("", "identity")
_LONGEST_LINE: Final = 8 << 20  # bytes
_LONGEST_REFUSAL: Final = 65_536  # bytes


def check_plain(response: httpx.Response) -> None:
    """Refuse a body that is packed though that was not asked for.

    Raises:
        ServerError: It is.
    """
    packed = response.headers.get("content-encoding", "").strip().lower()
    if packed not in _PLAIN:
        raise ServerError(f"The server sent {packed[:40]!r} where only plain bodies are read.")


async def events(response: httpx.Response) -> AsyncGenerator[str]:
    """The data of server-sent events, each on one line; comments are passed over.

    What comes behind the last one is read and left out, so that the connection can be used again.

    Raises:
        ServerError: The body is no event stream, or has a line without an end.
    """
    kind = response.headers.get("content-type", "")
    if not kind.startswith("text/event-stream"):
        raise ServerError(
            f"The server answered with {kind[:80]!r} and no event stream.",
            parameter="base_url",
            hint=KNOWN_SERVERS,
        )
    ended = False
    async for line in _lines(response):
        data = line.removeprefix(_EVENT).strip()
        ended = ended or (line.startswith(_EVENT) and data == _LAST)
        if line.startswith(_EVENT) and not ended:
            yield data


async def beginning(response: httpx.Response) -> str:
    """What a refusal says, read as far as it can matter."""
    check_plain(response)
    kept = bytearray()
    async for part in response.aiter_raw():
        kept += part
        if len(kept) > _LONGEST_REFUSAL:
            break
    return kept[:_LONGEST_REFUSAL].decode("utf-8", "replace")


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """The lines of a body, by line feeds alone; none may be endless."""
    check_plain(response)
    kept = bytearray()
    async for part in response.aiter_raw():
        # Only what is new is looked through: a long line may come byte by byte.
        first, *more = part.split(b"\n")
        kept += first
        for piece in more:
            yield kept.decode("utf-8", "replace").rstrip("\r")
            kept = bytearray(piece)
        if len(kept) > _LONGEST_LINE:
            raise ServerError("The server's answer has a line without an end.")
    if kept:
        yield kept.decode("utf-8", "replace")
