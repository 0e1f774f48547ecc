"""Writing safetensors shards one tensor at a time. It knows no model and no directory.

The library's own writer wants a shard's tensors all at once, and copies them; here the header is
written first, from shapes alone, and memory holds one tensor.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

# How the format spells the types that are written, and the bytes of one number.
_NAMES: Final = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "uint8": "U8",
    "int8": "I8",
}
_SIZES: Final = {"float32": 4, "float16": 2, "bfloat16": 2, "uint8": 1, "int8": 1}
_ALIGN: Final = 8


@dataclasses.dataclass(frozen=True, slots=True)
class TensorForm:
    """What a tensor to be written looks like.

    Attributes:
        shape: Its shape.
        dtype: Its type, as torch names it.
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def num_bytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * _SIZES[self.dtype]


def write_shard(
    path: Path,
    forms: Mapping[str, Mapping[str, TensorForm]],
    read: Callable[[str], Mapping[str, torch.Tensor]],
) -> dict[str, bytes]:
    """Write a shard and make sure that it is on the disk.

    Args:
        path: The file; it must not exist.
        forms: What is written for each source, in order: tensors by name.
        read: Gives the tensors of a source, in these forms.

    Returns:
        A digest of every tensor's bytes.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for tensors in forms.values():
        for name, form in tensors.items():
            header[name] = {
                "dtype": _NAMES[form.dtype],
                "shape": list(form.shape),
                "data_offsets": [at, at + form.num_bytes],
            }
            at += form.num_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGN)
    digests: dict[str, bytes] = {}
    with path.open("xb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for source, tensors in forms.items():
            values = read(source)
            for name in tensors:
                body = _bytes_of(values[name])
                file.write(body)
                digests[name] = hashlib.sha256(body).digest()
        file.flush()
        os.fsync(file.fileno())
    return digests


def digests_of(path: Path) -> dict[str, bytes]:
    """The digest of every tensor in a shard, as ``write_shard`` gives them."""
    from safetensors import safe_open

    with safe_open(path, framework="pt", device="cpu") as written:
        return {
            name: hashlib.sha256(_bytes_of(written.get_tensor(name))).digest()
            for name in written.keys()  # noqa: SIM118 (no mapping)
        }


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    import torch

    body: memoryview = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
    return body


def split(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Group names, in order, so that no group exceeds a limit unless one alone does."""
    groups: list[list[str]] = []
    held = limit
    for name, size in sizes.items():
        if held + size > limit or not groups:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size
    return groups


def index_of(groups: Sequence[tuple[str, Sequence[str]]], total: int) -> dict[str, Any]:
    """The contents of ``model.safetensors.index.json``.

    Args:
        groups: Each shard's file name and tensors.
        total: Bytes of all tensors.
    """
    placed = {tensor: file for file, tensors in groups for tensor in tensors}
    return {"metadata": {"total_size": total}, "weight_map": placed}
