"""Looking for weights that are not finite, one tensor in memory at a time. It loads no model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from aquila2_runtime.checkpoint.stored import read_tensors


def not_finite(files: Iterable[Path]) -> list[str]:
    """Name the tensors that hold NaN or infinity.

    Args:
        files: Verified weight files.
    """
    return [
        f"{path.name}: {name}"
        for path in files
        for name, tensor in read_tensors(path)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
