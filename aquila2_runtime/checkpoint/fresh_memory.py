"""Fresh memory for large tensors, in large pages where the system has them. It fills nothing.

What an allocator hands out is cleared by the system page by page when it is first written to, and
with pages of 4 KiB that takes several times as long as the writing. A process may ask for pages of
2 MiB instead, for memory that it maps itself.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from typing import Final

import torch

# Below the size of a large page there is nothing to win.
_LEAST: Final = 2 << 20


def fresh_tensor(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Return an uninitialized tensor in main memory that nothing else shares.

    Args:
        shape: Its shape.
        dtype: Its type.
    """
    size = math.prod(shape) * dtype.itemsize
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if size < _LEAST or advice is None:
        return torch.empty(*shape, dtype=dtype)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(advice)
    except OSError:
        pass  # a system that was built without them
    # The tensor keeps the mapping, which is given back to the system with it.
    return torch.frombuffer(memory, dtype=dtype).view(*shape)


def fresh_copy(tensor: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Return a copy of a tensor in fresh memory.

    Args:
        tensor: On CPU.
        dtype: Type of the copy; None is the tensor's own.
    """
    return fresh_tensor(tensor.shape, dtype or tensor.dtype).copy_(tensor)
