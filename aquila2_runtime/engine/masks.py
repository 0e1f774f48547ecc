"""Bit masks of allowed ids on logits. They know no constraints and choose nothing."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

import torch

from aquila2_runtime.engine.crossing import brought

_NEVER: Final = float("-inf")


def apply(scores: torch.Tensor, masks: Sequence[bytes | None]) -> None:
    """Bar every id that a row's mask does not allow, in place.

    Args:
        scores: Logits. ``[rows, ids]``.
        masks: For each row one bit per id, the lowest first, set where allowed; ids beyond its
            end are not. None allows all of them.
    """
    rows = [index for index, mask in enumerate(masks) if mask is not None]
    if not rows:
        return
    count, width = len(rows), scores.shape[1]
    size = -(-width // 8)
    packed = bytearray().join(mask[:size].ljust(size, b"\0") for mask in masks if mask is not None)
    bits = torch.frombuffer(packed, dtype=torch.uint8).to(scores.device)
    # Eight booleans to a number: gathered at once, then looked at one by one.
    barred = _barred(scores.device)[bits.long()].view(torch.bool).view(count, size * 8)[:, :width]
    if count == len(scores):
        scores.masked_fill_(barred, _NEVER)
        return
    where = brought(rows, scores.device)
    scores[where] = scores[where].masked_fill(barred, _NEVER)


@functools.lru_cache(maxsize=16)
def _barred(device: torch.device) -> torch.Tensor:
    """For each byte of a mask its eight bits as booleans, inverted, in the bytes of one number."""
    bytes_ = torch.arange(256, dtype=torch.int64)[:, None]
    clear = (bytes_ >> torch.arange(8)) & 1 == 0
    return clear.contiguous().view(torch.int64)[:, 0].to(device)
