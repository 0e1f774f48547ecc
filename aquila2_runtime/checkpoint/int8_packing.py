"""Int8 packing on CPU: a weight into the tensors that bitsandbytes keeps of it, bit for bit.

bitsandbytes makes several copies of the whole weight on the way, the widest of four bytes a number.
Here some rows at a time go through all operations: about ten times as fast on one core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.room import Room

# About how many numbers go through all operations together, in whole rows: of fewer the operations
# are so short that threads, which begin each under Python's lock, mostly wait for one another.
_STRETCH: Final = 1 << 19
_LARGEST: Final = 127.0

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
        narrow = self._room.take("narrow", torch.float16, *weight.shape)
        wide = self._room.take("values", torch.float32, *weight.shape)
        sizes = self._room.take("wide", torch.float32, *weight.shape)
        # To float16 by way of float32: from bfloat16 torch goes number by number.
        wide.copy_(narrow.copy_(wide.copy_(weight)))
        own = self.scales[start:stop]
        torch.amax(torch.abs(wide, out=sizes), dim=1, out=own)
        self._packed[start:stop] = wide.mul_((_LARGEST / own)[:, None]).round_()

    def parts(self) -> dict[str, torch.Tensor]:
        """The tensors that make it up, by the names of ``PARTS``, when all rows are packed."""
        by_rows = torch.zeros((), dtype=torch.uint8)
        return {"weight": self._packed, "SCB": self.scales, "weight_format": by_rows}
