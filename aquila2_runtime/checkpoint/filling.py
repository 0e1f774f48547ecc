"""How transformers fills a device while it places tensors. It knows no file and no model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Final

import torch

_WARM_UP: Final = "caching_allocator_warmup"


@contextlib.contextmanager
def piece_by_piece() -> Iterator[None]:
    """Keep transformers from taking room for all weights in one piece before it places any.

    They would all lie in that piece. What is freed of it later, when projections are joined, torch
    could not give back, and the cache, which gets what is free, would be smaller by it.
    """
    from transformers import modeling_utils

    warm_up = getattr(modeling_utils, _WARM_UP, None)
    if warm_up is not None:
        setattr(modeling_utils, _WARM_UP, lambda *_, **__: None)
    try:
        yield
    finally:
        if warm_up is not None:
            setattr(modeling_utils, _WARM_UP, warm_up)


@contextlib.contextmanager
def memory_errors(devices: Iterable[torch.device]) -> Iterator[None]:
    """Raise what a full device made of a load as torch's own error.

    transformers goes on with the next tensor where packing one fails, and at the end raises a
    RuntimeError that does not say of what.

    Args:
        devices: Where the weights go.
    """
    used = {device for device in devices if device.type == "cuda"}
    before = _failures(used)
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if _failures(used) > before:
            raise torch.OutOfMemoryError(str(error)) from None
        raise


def _failures(devices: Iterable[torch.device]) -> int:
    """How many allocations have failed on these devices so far."""
    return sum(torch.cuda.memory_stats(device).get("num_ooms", 0) for device in devices)
