"""Looking for weights that are not finite, one tensor in memory at a time. It loads no model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from aquila2_runtime.checkpoint.headers import open_bin


def not_finite(files: Iterable[Path]) -> list[str]:
    """Name the tensors that hold NaN or infinity.

    Args:
        files: Verified weight files.
    """
    return [
        f"{path.name}: {name}"
        for path in files
        for name, tensor in _tensors(path)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt", device="cpu") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                yield name, opened.get_tensor(name)
    else:
        yield from open_bin(path).items()
