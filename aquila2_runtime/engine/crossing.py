"""Crossing: numbers from the host to a device, without waiting for the work that is under way."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def brought(
    values: Sequence[object], device: torch.device, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Make a tensor of some numbers on a device.

    ``torch.tensor(values, device=...)`` does the same, but on CUDA waits until everything launched
    so far has ended: the steps after it could not be launched meanwhile.

    Args:
        values: Numbers, or rows of them.
        device: Where.
        dtype: Of the tensor; by default what torch makes of the numbers.
    """
    made = torch.tensor(values, dtype=dtype)
    if device.type == "cuda":
        made = made.pin_memory()
    return made.to(device, non_blocking=True)
