"""Owns steps taken through weights as NF4 would round them; it does not know when they are taken.

NF4 (Dettmers et al., 2023, arXiv:2305.14314) divides every 64 consecutive numbers of a weight by
the largest of them and keeps the nearest of 16 levels. The second rounding, of the scales, is left
out: it moves a weight by under half a percent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

BLOCK = 64
LEVELS = torch.tensor(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ]
)
BOUNDS = (LEVELS[:-1] + LEVELS[1:]) / 2


def nearest(weight: Tensor) -> Tensor:
    """Rounds a weight whose size is a multiple of 64, as 4 bits would keep it."""
    blocks = weight.reshape(-1, BLOCK)
    scales = blocks.abs().amax(1, keepdim=True).clamp(min=1e-38)
    levels, bounds = LEVELS.to(weight.device), BOUNDS.to(weight.device)
    return (levels[torch.bucketize(blocks / scales, bounds)] * scales).view_as(weight)


@contextmanager
def rounded(weights: Iterable[nn.Parameter]) -> Iterator[None]:
    """Shows rounded weights for a while; gradients taken meanwhile are those of the weights."""
    kept = [(w, w.detach().clone()) for w in weights]
    with torch.no_grad():
        for weight, own in kept:
            weight.copy_(nearest(own))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, own in kept:
                weight.copy_(own)
