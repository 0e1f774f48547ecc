"""Writing safetensors shards one tensor at a time. It knows no model and no directory.

The library's own writer wants a shard's tensors all at once, and copies them; here the header is
written first, from shapes alone, and memory holds one tensor.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

# How the format spells the types that are written.
_NAMES: Final = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_SIZES: Final = {"float32": 4, "float16": 2, "bfloat16": 2}
_ALIGN: Final = 8


def item_bytes(dtype: str) -> int:
    """Bytes of one number of a type that can be written."""
    return _SIZES[dtype]


def write_shard(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str,
    read: Callable[[str], torch.Tensor],
) -> None:
    """Write a shard and make sure that it is on the disk.

    Args:
        path: The file; it must not exist.
        shapes: The tensors, in the order they are written.
        dtype: Type of all of them, which ``read`` must give.
        read: Gives a tensor's values.
    """
    import torch

    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * _SIZES[dtype]
        header[name] = {
            "dtype": _NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGN)
    with path.open("xb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in shapes:
            tensor = read(name).contiguous()
            file.write(tensor.view(-1).view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())


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
