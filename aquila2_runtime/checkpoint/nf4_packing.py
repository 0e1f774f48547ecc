"""NF4 packing on CPU: a weight into the tensors that bitsandbytes keeps of it, bit for bit.

bitsandbytes goes over the whole weight with one operation after the other, most of the time looking
numbers up one by one. Here a stretch that fits the processor's cache goes through all of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import torch

from aquila2_runtime.checkpoint.nf4_codes import encode
from aquila2_runtime.checkpoint.prequantized import BLOCK, NESTED_BLOCK, STATE, STATE_BYTES

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.room import Room

# About how many numbers go through all operations together: of fewer the operations are so short
# that threads, which begin each under Python's lock, mostly wait for one another.
_STRETCH: Final = 1 << 19

# Names (after the projection's) of the tensors that make up a weight, by how safetensors spells
# their types.
PARTS: Final[Mapping[str, str]] = {
    "weight": "U8",
    "weight.absmax": "U8",
    "weight.nested_absmax": "F32",
    "weight.nested_quant_map": "F32",
    "weight.quant_map": "F32",
    STATE: "U8",
}


class Nf4Packing:
    """A weight that is being packed, with nested scales.

    Args:
        shape: Of the weight, ``[outputs, inputs]``.
        dtype: Its type.
        room: For what is only passed through.

    Attributes:
        rows: Rows to be packed together.
        scales: Of the blocks; one is not finite where a number of its block is not.
    """

    def __init__(self, shape: tuple[int, int], dtype: torch.dtype, room: Room) -> None:
        out, inputs = shape
        self._shape, self._dtype, self._room = shape, dtype, room
        # In odd weights the last block is cut short: rare, and bitsandbytes' own way is there.
        self._odd = bool(out * inputs % BLOCK)
        unit = BLOCK // math.gcd(BLOCK, inputs)
        self.rows = out if self._odd else min(out, max(_STRETCH // inputs // unit, 1) * unit)
        self.scales = torch.empty(out * inputs // BLOCK)
        self._packed = torch.empty(out * inputs // 2, dtype=torch.uint8)

    def pack(self, start: int, weight: torch.Tensor) -> None:
        """Pack some of its rows; several threads do at once.

        Args:
            start: The first one, a multiple of ``rows``.
            weight: ``rows`` of them, or what is left.
        """
        if self._odd:
            packed, state = _bitsandbytes().quantize_4bit(
                weight.contiguous(), blocksize=BLOCK, quant_type="nf4"
            )
            self._packed, self.scales = packed.view(-1), state.absmax
            return
        at = start * self._shape[1]
        encode(
            weight.contiguous(),
            self.scales[at // BLOCK : (at + weight.numel()) // BLOCK],
            self._packed[at // 2 : (at + weight.numel()) // 2],
            self._room,
        )

    def parts(self) -> dict[str, torch.Tensor]:
        """The tensors that make it up, by the names of ``PARTS``, when all rows are packed."""
        bnb = _bitsandbytes()
        offset = self.scales.mean()
        scales, nested = bnb.quantize_blockwise(self.scales - offset, blocksize=NESTED_BLOCK)
        described = {
            "quant_type": "nf4",
            "blocksize": BLOCK,
            "dtype": str(self._dtype).removeprefix("torch."),
            "shape": list(self._shape),
            "nested_blocksize": nested.blocksize,
            "nested_dtype": str(nested.dtype).removeprefix("torch."),
            "nested_offset": float(offset),
        }
        text = json.dumps(described).encode().ljust(STATE_BYTES)
        return {
            "weight": self._packed[:, None],
            "weight.absmax": scales,
            "weight.nested_absmax": nested.absmax,
            "weight.nested_quant_map": nested.code,
            "weight.quant_map": bnb.get_4bit_type("nf4", device="cpu"),
            STATE: torch.frombuffer(bytearray(text), dtype=torch.uint8),
        }


def _bitsandbytes() -> Any:  # untyped
    from bitsandbytes import functional

    return functional
