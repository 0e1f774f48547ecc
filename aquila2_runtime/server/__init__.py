"""A loaded checkpoint over HTTP, in OpenAI's form; importing it needs the extra ``serve``."""

from __future__ import annotations

from aquila2_runtime.errors import MissingDependencyError

try:
    from aquila2_runtime.server.app import create_app
    from aquila2_runtime.server.settings import ServerSettings
except ModuleNotFoundError as error:
    if error.name not in ("fastapi", "starlette"):
        raise
    raise MissingDependencyError(
        "The server needs fastapi, which is not installed.",
        parameter="server",
        hint='Install it with: pip install "aquila2[serve]"',
    ) from error

__all__ = ["ServerSettings", "create_app"]
