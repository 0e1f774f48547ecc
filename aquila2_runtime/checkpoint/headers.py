"""Headers: names, types and places of the tensors in a safetensors file. It reads no values.

The reader is our own, for the format as its specification fixes it: eight bytes of length, a JSON
header, then the tensors back to back without holes.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from pathlib import Path
from typing import Any, Final, NoReturn

from aquila2_runtime.checkpoint.strict_json import parse_json_object
from aquila2_runtime.errors import WeightsError

_MAX_HEADER: Final = 100_000_000  # the format's own limit
_MAX_AXES: Final = 8
_TYPES: Final[dict[str, tuple[str, int]]] = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U64": ("uint64", 8),
    "U32": ("uint32", 4),
    "U16": ("uint16", 2),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}


@dataclasses.dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor in a file.

    Attributes:
        file: The file.
        dtype: Its type as torch names it ("bfloat16").
        shape: Its shape.
        num_bytes: Bytes of its values.
        start: Where they begin in the file; None where torch alone can read it.
        strides: How far apart they lie along each axis; None where they lie row by row.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    num_bytes: int
    start: int | None = None
    strides: tuple[int, ...] | None = None


def read_safetensors_header(path: Path) -> dict[str, TensorInfo]:
    """Read and check a safetensors header.

    Raises:
        WeightsError: The file is truncated, too long, or its header contradicts itself.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            if len(prefix) < struct.calcsize("<Q"):
                refuse_file(path, f"has {size} bytes, too few for a header")
            (length,) = struct.unpack("<Q", prefix)
            if length > min(_MAX_HEADER, size - 8):
                refuse_file(path, f"states a header of {length} bytes; the file has {size}")
            data = file.read(length)
    except OSError as problem:
        refuse_file(path, f"cannot be read ({type(problem).__name__})")
    header = parse_json_object(data, name=f"the header of {path.name}", error=WeightsError)
    notes = header.pop("__metadata__", None) or {}
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        refuse_file(path, "has __metadata__ that is no mapping of texts to texts")
    spans: list[tuple[int, int, str]] = []
    tensors: dict[str, TensorInfo] = {}
    body = 8 + length
    for name, entry in header.items():
        tensors[name] = _safetensors_entry(path, name, entry, body)
        begin, end = entry["data_offsets"]
        spans.append((begin, end, name))
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            what = "overlaps another" if begin < at else "leaves a hole before it"
            refuse_file(path, f"tensor {name:.100} {what} (bytes {begin} to {end})")
        at = end
    held = size - 8 - length
    if at != held:
        what = "truncated" if at > held else "too long"
        refuse_file(path, f"is {what}: its tensors take {at} bytes, {held} follow the header")
    return tensors


def _safetensors_entry(path: Path, name: str, entry: Any, body: int) -> TensorInfo:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        refuse_file(path, f"tensor {name:.100} is not described by dtype, shape and data_offsets")
    kind = _TYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if kind is None:
        refuse_file(path, f"tensor {name:.100} has the unknown type {entry['dtype']!r:.40}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _counts(shape) or len(shape) > _MAX_AXES:
        refuse_file(path, f"tensor {name:.100} has the shape {shape!r:.100}")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        refuse_file(path, f"tensor {name:.100} has the offsets {offsets!r:.100}")
    needed = math.prod(shape) * kind[1]
    if offsets[1] - offsets[0] != needed:
        held = offsets[1] - offsets[0]
        refuse_file(path, f"tensor {name:.100} needs {needed} bytes and has {held}")
    return TensorInfo(path, kind[0], tuple(shape), needed, body + offsets[0])


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in value
    )


def refuse_file(path: Path, problem: str) -> NoReturn:
    """Raise the ``WeightsError`` of a weight file that is not what it should be."""
    raise WeightsError(
        f"{path.name} {problem}.",
        parameter=path.name,
        value=str(path),
        hint="Fetch the file again; it may be damaged.",
    )
