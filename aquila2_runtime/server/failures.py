"""Errors as HTTP answers in OpenAI's form. It raises none."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, cast

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request

from aquila2_runtime.errors import (
    Aquila2Error,
    ContextOverflowError,
    EngineBusyError,
    EngineClosedError,
    EngineDeadError,
    GenerationError,
    InvalidRequestError,
    MissingDependencyError,
    ModelNotFoundError,
    OutOfMemoryError,
    RequestTimeoutError,
    ServerError,
)
from aquila2_runtime.keywords import nearest

_LOG: Final = logging.getLogger("aquila2_runtime.server")
# The first that fits counts.
_STATUS: Final[tuple[tuple[type[Aquila2Error], int], ...]] = (
    (InvalidRequestError, 400),
    (ModelNotFoundError, 404),
    (EngineBusyError, 429),
    (RequestTimeoutError, 504),
    (OutOfMemoryError, 503),
    (EngineClosedError, 503),
    (EngineDeadError, 503),
    (ServerError, 502),
    (MissingDependencyError, 501),
    (GenerationError, 500),
    (Aquila2Error, 500),
)
_CODES: Final[dict[type[Aquila2Error], str]] = {
    ContextOverflowError: "context_length_exceeded",
    ModelNotFoundError: "model_not_found",
}
_BY_STATUS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_RETRY_SECONDS: Final = "1"
_TYPES: Final = ("str", "bool", "int", "float")


def body(message: str, status: int, param: str | None = None, code: str | None = None) -> Any:
    """The body of a failure."""
    kind = _BY_STATUS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def failed(
    message: str, status: int, param: str | None = None, code: str | None = None
) -> JSONResponse:
    """A whole answer that tells of a failure."""
    return _answer(body(message, status, param, code), status)


def status_of(error: Aquila2Error) -> int:
    """The status that fits an error."""
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def body_of(error: Exception) -> Any:
    """The body for an error, also one that nobody raised on purpose, which tells nothing of it."""
    if isinstance(error, Aquila2Error):
        code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), None)
        status = status_of(error)
        if status >= 500:
            _LOG.error("A request failed: %s", error)
        return body(str(error), status, error.parameter, code)
    _LOG.error("A request failed.", exc_info=error)
    return body("The server failed on this request; its log says how.", 500)


async def on_ours(request: Request, error: Exception) -> JSONResponse:
    """Answer an error that was raised on purpose."""
    return _answer(body_of(error), status_of(cast(Aquila2Error, error)))


async def on_shape(request: Request, error: Exception) -> JSONResponse:
    """Answer a body that is not of the form it must have; it is the first fault that is told."""
    return failed(*_first(cast(RequestValidationError, error)))


async def on_http(request: Request, error: Exception) -> JSONResponse:
    """Answer a path or a method that is not there."""
    found = cast(HTTPException, error)
    told = f"{request.method} {request.url.path[:200]!r}: {found.detail}"
    answer = failed(told, found.status_code)
    answer.headers.update(found.headers or {})  # 405 says which methods there are
    return answer


async def on_any(request: Request, error: Exception) -> JSONResponse:
    """Answer what nobody raised on purpose."""
    return _answer(body_of(error), 500)


def _answer(content: Any, status: int) -> JSONResponse:
    headers = {"Retry-After": _RETRY_SECONDS} if status in (429, 503) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(content, status, headers)


def _first(error: RequestValidationError) -> tuple[str, int, str | None]:
    faults = error.errors()
    fault, place = faults[0], _place(faults[0])
    kind, where = fault["type"], ".".join(place)
    if kind == "json_invalid":
        return f"The body is no JSON: {fault.get('ctx', {}).get('error', '')}.", 400, None
    if kind == "extra_forbidden":
        return f"There is no parameter {where[:200]!r}.{_guess(place)}", 400, where[:200]
    # Of a field that may be one of several things each says what is wrong; its name is one.
    at = next((at for at, part in enumerate(place) if _is_branch(part)), len(place))
    where = ".".join(place[:at])
    same = (
        faults[:1]
        if at == len(place)
        else [one for one in faults if _place(one)[:at] == place[:at]]
    )
    said = "; or ".join(dict.fromkeys(str(one["msg"]) for one in same))
    return f"{where[:200] or 'The body'}: {said}.", 400, where[:200] or None


def _place(fault: Mapping[str, Any]) -> list[str]:
    return [str(part) for part in fault["loc"] if part != "body"]


def _is_branch(part: str) -> bool:
    """Whether a part of a place is how pydantic calls a type, and no field's name."""
    return part in _TYPES or "[" in part


def _guess(place: list[str]) -> str:
    from aquila2_runtime.server.bodies import ChatBody

    near = nearest(place[-1], ChatBody.model_fields) if len(place) == 1 else None
    return f" Did you mean {near!r}?" if near else ""
