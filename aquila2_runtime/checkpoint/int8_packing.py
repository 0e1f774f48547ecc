"""Int8 packing on CPU: a weight into the tensors that bitsandbytes keeps of it, bit for bit.

bitsandbytes makes several copies of the whole weight on the way, the widest of four bytes a number.
Here some rows at a time go through few operations: several times as fast on one core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import torch

from aquila2_runtime.checkpoint.magnitudes import largest

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.room import Room

# About how many numbers go through all operations together, in whole rows: of fewer the operations
# are so short that threads, which begin each under Python's lock, mostly wait for one another.
_STRETCH: Final = 1 << 19
_LARGEST: Final = 127.0
# In rows of bfloat16 whose largest number lies between these, float16 changes nothing that is left
# when they are packed: it holds numbers from 2**-17 on as they are, and the rest become 0 anyway.
_LEAST_ROW: Final = 2.0**-8
_MOST_ROW: Final = 65_504.0

# Names (after the projection's) of the tensors that make up a weight, by how safetensors spells
# their types.
PARTS: Final[Mapping[str, str]] = {"weight": "I8", "SCB": "F32", "weight_format": "U8"}


class Int8Packing:
    """A weight that is being packed, each row with a scale.

    bitsandbytes packs from float16, whatever it is given: a scale is infinite where a number
    exceeds that.

    Args:
        shape: Of the weight, ``[outputs, inputs]``.
        dtype: Its type, which the packed one does not keep.
        room: For what is only passed through.

    Attributes:
        rows: Rows to be packed together.
        scales: Of the rows; one is not finite where a number of its row is not.
    """

    def __init__(self, shape: tuple[int, int], dtype: torch.dtype, room: Room) -> None:
        out, inputs = shape
        self.rows = min(out, max(1, _STRETCH // inputs))
        self.scales = torch.empty(out)
        self._packed = torch.empty(out, inputs, dtype=torch.int8)
        self._room = room

    def pack(self, start: int, weight: torch.Tensor) -> None:
        """Pack some of its rows; several threads do at once.

        Args:
            start: The first one, a multiple of ``rows``.
            weight: ``rows`` of them, or what is left.
        """
        stop = start + len(weight)
        wide = self._room.take("values", torch.float32, *weight.shape)
        own = self.scales[start:stop]
        if not self._find_scales(weight, own):
            weight = self._narrow(weight, wide)
            own.copy_(largest(weight, self._room))
        wide.copy_(weight)
        self._packed[start:stop] = wide.mul_((_LARGEST / own)[:, None]).round_()

    def _find_scales(self, weight: torch.Tensor, scales: torch.Tensor) -> bool:
        """Find them where float16 would change nothing."""
        if weight.dtype != torch.bfloat16:
            return False
        scales.copy_(largest(weight, self._room))
        return bool((scales.amin() >= _LEAST_ROW) & (scales.amax() <= _MOST_ROW))

    def _narrow(self, weight: torch.Tensor, wide: torch.Tensor) -> torch.Tensor:
        """The weight in float16; what is wide is passed through."""
        if weight.dtype == torch.float16:
            return weight
        if weight.dtype == torch.bfloat16:
            weight = wide.copy_(weight)  # directly, torch goes number by number
        return self._room.take("narrow", torch.float16, *weight.shape).copy_(weight)

    def parts(self) -> dict[str, torch.Tensor]:
        """The tensors that make it up, by the names of ``PARTS``, when all rows are packed."""
        by_rows = torch.zeros((), dtype=torch.uint8)
        return {"weight": self._packed, "SCB": self.scales, "weight_format": by_rows}
