"""Magnitudes of 16-bit numbers, found in their bits: half as much to go through as in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.room import Room

# All but the sign.
_MAGNITUDE: Final = 0x7FFF


def largest(numbers: torch.Tensor, room: Room) -> torch.Tensor:
    """Find each row's largest magnitude.

    Args:
        numbers: ``[rows, columns]`` in bfloat16 or float16, contiguous.
        room: For what is only passed through.

    Returns:
        In their type; NaN or infinite where a number of the row is.
    """
    return magnitudes(numbers, room).amax(dim=1).view(numbers.dtype)


def magnitudes(numbers: torch.Tensor, room: Room) -> torch.Tensor:
    """Give the magnitudes as integers, which are in the same order.

    Args:
        numbers: In bfloat16 or float16, contiguous.
        room: For the result, which is in int16 and of their shape.
    """
    bits = numbers.view(torch.int16)
    own = room.take("magnitudes", torch.int16, *bits.shape)
    return torch.bitwise_and(bits, _MAGNITUDE, out=own)
