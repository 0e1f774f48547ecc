"""SmallProjection: a weight of few numbers, multiplied by BLAS as it is. It knows no model.

A packed product takes some 10 or 20 us before it begins, several times as long as BLAS needs for
all of a small weight. BLAS makes no promise that a row is the same number in any company. Where
the weight's rows are its inputs it keeps to one order of additions on the processors seen so far,
but for a single row, on AMD's up to three, which are therefore padded. So that is looked at, once
for each size of weight, and where no padding helps the weight is not taken.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Final

import torch

# Above this many numbers packed products have been seen to be as fast.
MOST_NUMBERS: Final = 65_536
_TRIED: Final = (*range(1, 66), 97, 128, 255, 512, 777, 2_048)
_PADDED: Final = (2, 4, 8)


class SmallProjection:
    """A projection by a small weight.

    Args:
        weight: ``[outputs, inputs]``, fp32 on CPU.
        least: Fewer rows are padded to as many.

    Attributes:
        weight: Its transposed copy, a row per input.
    """

    def __init__(self, weight: torch.Tensor, least: int = 2) -> None:
        self.weight = weight.t().contiguous()
        self.least = least

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Multiply rows. ``[rows, inputs]`` to ``[rows, outputs]``."""
        return _product(states, self.weight, self.least)

    @property
    def num_bytes(self) -> int:
        """Memory of the weight."""
        return self.weight.nbytes

    def plain(self) -> torch.Tensor:
        """The weight, ``[outputs, inputs]``: a view."""
        return self.weight.t()


def small_projection(weight: torch.Tensor) -> SmallProjection | None:
    """A projection, or None for a weight that is better multiplied in another way."""
    suits = weight.device.type == "cpu" and weight.dtype == torch.float32
    if not suits or weight.numel() > MOST_NUMBERS:
        return None
    outputs, inputs = weight.shape
    least = rows_kept_apart(outputs, inputs, torch.get_num_threads())
    return None if least is None else SmallProjection(weight, least)


@functools.cache
def rows_kept_apart(outputs: int, inputs: int, threads: int) -> int | None:
    """From how many rows on each is the same bits in any company on this machine.

    Args:
        outputs: Of the weight.
        inputs: The same.
        threads: How many torch uses now.

    Returns:
        The least of some numbers to which fewer rows can be padded, or None where none is enough.
    """
    generator = torch.Generator().manual_seed(threads)
    states = torch.randn(max(_TRIED), inputs, generator=generator)
    weight = torch.randn(inputs, outputs, generator=generator)
    together = _product(states, weight, 1)

    def apart(least: int) -> bool:
        parts = _parts(len(states))
        return all(
            torch.equal(_product(states[some], weight, least), together[some]) for some in parts
        )

    return next(filter(apart, _PADDED), None)


def _parts(rows: int) -> Iterator[slice]:
    """Some of the rows at a time: from the first on, up to the last, and one by one."""
    for count in _TRIED:
        yield slice(0, count)
        yield slice(rows - count, rows)
    for row in range(8):
        yield slice(row, row + 1)


def _product(states: torch.Tensor, weight: torch.Tensor, least: int) -> torch.Tensor:
    rows = states.shape[0]
    if rows < least:
        return torch.mm(padded(states, least), weight).narrow(0, 0, rows)
    return torch.mm(states, weight)


def padded(states: torch.Tensor, least: int) -> torch.Tensor:
    """Rows with as many of zeros behind them as are missing. ``[least, inputs]``."""
    return torch.constant_pad_nd(states, (0, 0, 0, least - states.shape[0]))
