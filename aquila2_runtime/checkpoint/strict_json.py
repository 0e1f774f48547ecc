"""JSON as the standard defines it, bounded; Python's own reader accepts more. It knows no keys."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final, NoReturn

from aquila2_runtime.errors import CheckpointError

_MAX_DIGITS: Final = 19  # fits a signed 64-bit integer
_MAX_DEPTH: Final = 64


class _NotStrictError(ValueError):
    """Valid for Python's reader, not for ours."""


def read_json_object(path: Path, *, max_bytes: int, error: type[CheckpointError]) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: A regular file (a link to one counts; a device or pipe does not).
        max_bytes: The largest file read.
        error: The class raised.

    Raises:
        CheckpointError: Of the given class: no such file, too large, or not strict JSON.
    """
    name = path.name
    try:
        if not path.is_file():
            raise error(
                f"{name} is missing in {path.parent}.",
                parameter=name,
                hint="Copy every file of the checkpoint into one directory.",
            )
        size = path.stat().st_size
        if size > max_bytes:
            raise error(
                f"{name} has {size} bytes, more than the {max_bytes} such a file may have.",
                parameter=name,
                value=size,
                hint="Fetch it again; it may be another file.",
            )
        data = path.read_bytes()
    except OSError as problem:
        raise error(
            f"{name} cannot be read: {problem.strerror or type(problem).__name__}.",
            parameter=name,
            hint="Check its permissions and the disk.",
        ) from problem
    return parse_json_object(data, name=name, error=error)


def parse_json_object(data: bytes, *, name: str, error: type[CheckpointError]) -> dict[str, Any]:
    """Parse bytes as one strict JSON object.

    Refused beyond the standard: NaN and infinities, numbers that overflow, duplicate keys,
    integers of more than 64 bits, nesting deeper than 64.

    Args:
        data: UTF-8 bytes.
        name: What they are, for messages.
        error: The class raised.

    Raises:
        CheckpointError: Of the given class.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_bounded,
        )
        _check_depth(value)
    except RecursionError:
        problem = f"nested deeper than {_MAX_DEPTH}"
    except UnicodeDecodeError as caught:
        problem = f"not UTF-8 at byte {caught.start}"
    except ValueError as caught:
        problem = str(caught)
    else:
        if isinstance(value, dict):
            return value
        problem = f"a JSON object is needed, not {type(value).__name__}"
    raise error(
        f"{name} is not valid: {problem:.200}.",
        parameter=name,
        hint="Fetch the file again; it may be damaged.",
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                msg = f"duplicate key {key!r:.100}"
                raise _NotStrictError(msg)
            seen.add(key)
    return result


def _refuse_constant(text: str) -> NoReturn:
    msg = f"{text} is no JSON number"
    raise _NotStrictError(msg)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        msg = f"number {text:.40} overflows"
        raise _NotStrictError(msg)
    return value


def _bounded(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_DIGITS or not -(2**63) <= (value := int(text)) < 2**63:
        msg = f"integer {text:.40} does not fit 64 bits"
        raise _NotStrictError(msg)
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return
        level = below
    msg = f"nested deeper than {_MAX_DEPTH}"
    raise _NotStrictError(msg)
