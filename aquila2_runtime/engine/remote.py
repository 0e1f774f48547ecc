"""Remote: a server that computes elsewhere: its address, its key, its models, its refusals.

It knows the protocol's outside and no request.
"""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any, Final

from aquila2_runtime.engine.event_stream import check_plain
from aquila2_runtime.engine.openai_wire import KNOWN_SERVERS, said
from aquila2_runtime.errors import (
    Aquila2Error,
    EngineBusyError,
    InvalidLoadOptionError,
    InvalidRequestError,
    ServerError,
)
from aquila2_runtime.server_address import KEY_VARIABLE

if TYPE_CHECKING:
    import httpx

_CONNECT_SECONDS: Final = 10.0
# Without a byte for so long, a server is not thinking but gone. Prompts of others come first there.
_SILENT_SECONDS: Final = 600.0
# Shorter than servers keep a connection that nobody uses, so that none is used as it is closed.
_IDLE_SECONDS: Final = 2.0
_MOST_MODELS: Final = 1_000
_MOST_BYTES: Final = 4 << 20  # of a list of models


@dataclasses.dataclass(frozen=True, slots=True)
class Remote:
    """A server.

    Attributes:
        base_url: Its address, up to and with ``/v1``, without a slash at its end.
        model: The model's name there.
        key: What it wants as ``Authorization: Bearer``; None where it wants none.
    """

    base_url: str
    model: str = ""
    key: str | None = dataclasses.field(default=None, repr=False)

    def client(self) -> httpx.AsyncClient:
        """What asks it; proxies and certificates are those of the environment."""
        import httpx

        return httpx.AsyncClient(
            base_url=f"{self.base_url}/",
            headers=self._headers(),
            timeout=httpx.Timeout(_SILENT_SECONDS, connect=_CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=64, keepalive_expiry=_IDLE_SECONDS
            ),
        )

    def models(self) -> list[ServedModel]:
        """Ask which models there are.

        Raises:
            ServerError: It cannot be reached, or answers otherwise.
            InvalidLoadOptionError: It wants another key, is no such server, or the environment's
                proxies cannot be used.
        """
        import httpx

        try:
            with (
                httpx.Client(headers=self._headers(), timeout=_CONNECT_SECONDS) as client,
                client.stream("GET", f"{self.base_url}/models") as response,
            ):
                text = _whole(response, self.base_url)
        except (ImportError, ValueError) as error:  # of the proxies that the environment names
            raise InvalidLoadOptionError(
                f"{self.base_url} cannot be asked as the environment says: {error}",
                parameter="base_url",
                value=self.base_url,
                hint="Look at HTTP_PROXY, HTTPS_PROXY and ALL_PROXY; NO_PROXY names exceptions.",
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise unreachable(error, self.base_url) from None
        if response.status_code != 200:
            raise refusal(response.status_code, text[:65_536], self, loading=True)
        return _served(text, self.base_url)

    def _headers(self) -> dict[str, str]:
        # Some bytes of packed zeros would fill the memory.
        headers = {"Accept-Encoding": "identity"}
        return headers if self.key is None else headers | {"Authorization": f"Bearer {self.key}"}


@dataclasses.dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as a server lists it.

    Attributes:
        name: Its name.
        parent: The model that it is an adapter of; None for a model of its own.
        max_model_len: Tokens of prompt and answer together; None where it does not say.
    """

    name: str
    parent: str | None
    max_model_len: int | None


def _whole(response: httpx.Response, base_url: str) -> str:
    """A short body, read within a few seconds."""
    check_plain(response)
    kept, until = bytearray(), time.monotonic() + _CONNECT_SECONDS
    for part in response.iter_raw():
        kept += part
        if len(kept) > _MOST_BYTES or time.monotonic() > until:
            raise ServerError(
                f"{base_url}/models takes more than {_CONNECT_SECONDS:g} seconds or 4 MiB.",
                parameter="base_url",
                value=base_url,
                hint=_address_hint(base_url),
            )
    return kept.decode("utf-8", "replace")


def _served(text: str, base_url: str) -> list[ServedModel]:
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        listed = None
    entries = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(entries, list):
        raise ServerError(
            f"{base_url}/models gives no list of models.",
            parameter="base_url",
            value=base_url,
            hint=_address_hint(base_url),
        )
    found = []
    for entry in entries[:_MOST_MODELS]:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            parent, most = entry.get("parent"), entry.get("max_model_len")
            found.append(
                ServedModel(
                    entry["id"],
                    parent if isinstance(parent, str) else None,
                    most if isinstance(most, int) and most > 0 else None,
                )
            )
    return found


def refusal(status: int, text: str, remote: Remote, *, loading: bool = False) -> Aquila2Error:
    """The error that a server's status means.

    Args:
        status: Any but 200.
        text: What it says; a key that it repeats is left out.
        remote: The server.
        loading: Whether it was asked on loading: then options are what is wrong, and told.
    """
    base_url = remote.base_url
    if remote.key:
        text = text.replace(remote.key, "...")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = text
    message = f"The server refused it with status {status}: {said(told)}."
    if status in (400, 413, 422):
        return InvalidRequestError(message, parameter=_parameter(told))
    if loading and status in (401, 403):
        return InvalidLoadOptionError(
            message,
            parameter="base_url",
            value=base_url,
            hint=f"Set the environment variable {KEY_VARIABLE} to the server's key.",
        )
    if loading and status == 404:
        return InvalidLoadOptionError(
            message, parameter="base_url", value=base_url, hint=_address_hint(base_url)
        )
    if status == 429:
        return EngineBusyError(message, hint="Try again later, or send fewer at once.")
    hint = "Ask again later; the server's log may say why."
    return ServerError(message, parameter="base_url", hint=hint)


def unreachable(error: BaseException, base_url: str) -> Aquila2Error:
    """What to tell of an error that a request met; one of ours stays as it is."""
    import httpx

    if isinstance(error, Aquila2Error):
        return error
    if not isinstance(error, (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError)):
        return ServerError(f"The server's answer could not be read ({type(error).__name__}).")
    return ServerError(
        f"The server could not be reached, or the connection broke ({type(error).__name__}).",
        parameter="base_url",
        value=base_url,
        hint="Check the address, and whether the server is up.",
    )


def _parameter(told: Any) -> str | None:
    inner = told.get("error") if isinstance(told, dict) else None
    found = inner.get("param") if isinstance(inner, dict) else None
    return found if isinstance(found, str) else None


def _address_hint(base_url: str) -> str:
    if not base_url.endswith("/v1"):
        return 'The address of such a server mostly ends in "/v1".'
    return KNOWN_SERVERS
