"""Room: memory that a thread uses again and again, so that it stays in the processor's cache.

Fresh memory is cleared by the system page by page, which for what is only passed through costs as
much as the work itself. It knows no weights.
"""

from __future__ import annotations

import math
import threading

import torch


class Room(threading.local):
    """Buffers by name, each thread's own."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype], torch.Tensor] = {}

    def take(self, name: str, dtype: torch.dtype, *shape: int) -> torch.Tensor:
        """Give a buffer, with whatever is in it; the next call under its name gives the same.

        Args:
            name: What it is for.
            dtype: Its type.
            shape: Its shape.
        """
        size = math.prod(shape)
        buffer = self._buffers.get((name, dtype))
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[name, dtype] = torch.empty(size, dtype=dtype)
        return buffer[:size].view(shape)
