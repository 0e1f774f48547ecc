"""``aquila2 serve``: a checkpoint over HTTP, in OpenAI's form, until Ctrl-C."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from aquila2_runtime.cli import options
from aquila2_runtime.cli.failures import reported
from aquila2_runtime.cli.terminal import note
from aquila2_runtime.errors import InvalidRequestError, MissingDependencyError

if TYPE_CHECKING:
    from aquila2_runtime.runtime import Aquila2Runtime
    from aquila2_runtime.server import ServerSettings

_SERVING: Final = "Serving"
# Answers under way are finished within so many seconds when it is told to end.
_GRACE: Final = 30
# A connection that asks nothing, or does not end its headers, is closed after so many seconds.
_IDLE: Final = 30
# Connections at once; more are told 503. The engine has a queue of its own.
_CONNECTIONS: Final = 1_024

Host = Annotated[
    str, typer.Option(help="Address to listen on; others than this machine's need a key.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        envvar="AQUILA2_API_KEY",
        show_envvar=True,
        help="What 'Authorization: Bearer' must carry. Better set the variable: others see this.",
        rich_help_panel=_SERVING,
    ),
]
ServedName = Annotated[
    str | None,
    typer.Option(
        "--served-model-name",
        help="What requests call the model; its own name if left out.",
        rich_help_panel=_SERVING,
    ),
]
Hosts = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        help="A name that the Host header may have; may repeat.",
        rich_help_panel=_SERVING,
    ),
]
Origins = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-origin",
        help="A site whose pages may ask, as https://example.org; may repeat.",
        rich_help_panel=_SERVING,
    ),
]
Seats = Annotated[
    int | None, typer.Option(help="Most requests computed at once.", rich_help_panel=_SERVING)
]


def serve(
    model: options.Model = options.DEMO,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    api_key: ApiKey = None,
    served_model_name: ServedName = None,
    allow_host: Hosts = None,
    allow_origin: Origins = None,
    max_num_seqs: Seats = None,
    quantization: options.Quantization = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    max_model_len: options.MaxModelLen = None,
    kv_cache_dtype: options.KvCacheDtype = None,
    kv_cache_memory: options.KvCacheMemory = None,
    template: options.Template = None,
    revision: options.Revision = None,
    source: options.Source = None,
    cache_dir: options.CacheDir = None,
    pickle: options.Pickle = True,
    offline: options.Offline = False,
    base_url: options.BaseUrl = None,
    remote_model: options.RemoteModel = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Answer over HTTP as OpenAI's API does: chat and completions, whole or streamed."""
    with reported(debug=debug):
        settings = _settings(host, api_key, served_model_name, allow_host, allow_origin)
        # Before the weights: a port that is taken is known at once.
        with (
            contextlib.closing(_bound(host, port)) as listening,
            options.load(
                model,
                quiet=quiet,
                max_num_seqs=max_num_seqs,
                quantization=quantization,
                device=options.devices(device),
                dtype=dtype,
                max_model_len=max_model_len,
                kv_cache_dtype=kv_cache_dtype,
                kv_cache_memory=kv_cache_memory,
                template=template,
                revision=revision,
                source=source,
                cache_dir=cache_dir,
                allow_pickle=pickle,
                offline=offline,
                base_url=base_url,
                remote_model=remote_model,
            ) as runtime,
        ):
            _run(runtime, settings, listening)


def _settings(
    host: str,
    api_key: str | None,
    served_name: str | None,
    hosts: list[str] | None,
    origins: list[str] | None,
) -> ServerSettings:
    from aquila2_runtime.server import ServerSettings
    from aquila2_runtime.server.settings import LOCAL_NAMES, is_local

    # Whoever has the key may call another address what they like, unless names are given.
    anything = hosts is None and not is_local(host)
    settings = ServerSettings(
        api_key=api_key or None,
        served_name=served_name,
        hosts=None if anything else (*LOCAL_NAMES, *(hosts or ())),
        origins=tuple(origins or ()),
    )
    settings.check_address(host)
    return settings


def _bound(host: str, port: int) -> socket.socket:
    """Take the address; nobody can connect yet.

    Raises:
        InvalidRequestError: It is taken, or none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise InvalidRequestError(
            f"Nothing can listen on {host}:{port}: {error.strerror or error}.",
            parameter="port",
            value=port,
            hint="Choose another --port, or 0 for a free one.",
        ) from error
    return listening


def _run(runtime: Aquila2Runtime, settings: ServerSettings, listening: socket.socket) -> None:
    from aquila2_runtime.server import create_app

    try:
        import uvicorn

        from aquila2_runtime.server.connections import Connection
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "The server needs uvicorn, which is not installed.",
            parameter="server",
            hint='Install it with: pip install "aquila2[serve]"',
        ) from error

    class Server(uvicorn.Server):
        """Says where it is once it can be asked."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                note(f"{runtime.info.model} answers at {_url(listening)}/v1; Ctrl-C ends it.")

    config: dict[str, Any] = {
        "http": Connection,
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": _IDLE,
        "timeout_graceful_shutdown": _GRACE,
        "limit_concurrency": _CONNECTIONS,
    }
    Server(uvicorn.Config(create_app(runtime, settings), **config)).run(sockets=[listening])


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
