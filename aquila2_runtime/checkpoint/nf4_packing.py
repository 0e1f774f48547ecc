"""NF4 packing on CPU: a weight into the tensors that bitsandbytes keeps of it, bit for bit.

bitsandbytes goes over the whole weight with one operation after the other, most of the time looking
numbers up one by one. Here a stretch that fits the processor's cache goes through all of them, and
one look-up gives the codes of all numbers but the few that lie next to a bound.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import torch

from aquila2_runtime.checkpoint.prequantized import BLOCK, NESTED_BLOCK, STATE, STATE_BYTES

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.room import Room

# About how many numbers go through all operations together: of fewer the operations are so short
# that threads, which begin each under Python's lock, mostly wait for one another.
_STRETCH: Final = 1 << 19
# Cells from 0 to 1; the table of all of them stays in the processor's innermost cache.
_CELLS: Final = 1 << 14
# How far, in cells, a number may be from where it lies after rounding: more than it ever is.
_MARGIN: Final = 0.01
# Beside a code: the cell has a bound in it, or next to it.
_NEAR: Final = 16
# The same in each of eight bytes.
_NEAR_WORD: Final = 0x1010101010101010
_GROUP: Final = 8
# Groups, of different parts of a stretch, that are looked at together: few have such a number.
_FOLD: Final = 4
# bitsandbytes' own: what a block of zeros is divided by.
_TINY: Final = 1e-38

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
        _pack(
            weight,
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


@functools.cache
def _bounds() -> torch.Tensor:
    """The bounds between the numbers that codes stand for, ascending."""
    code: torch.Tensor = _bitsandbytes().get_4bit_type("nf4", device="cpu")
    return (code[:-1] + code[1:]) / 2


@functools.cache
def _table() -> torch.Tensor:
    """The codes of cells, with ``_NEAR`` where numbers of a cell may have different ones."""
    places = (_bounds().double() + 1) * _CELLS
    # One more than there are: rounding may carry a number of 1 across.
    low = torch.arange(2 * _CELLS + 2, dtype=torch.float64)
    below = torch.searchsorted(places, low - _MARGIN)
    above = torch.searchsorted(places, low + 1 + _MARGIN)
    return (below + _NEAR * (above > below)).to(torch.uint8)


def _pack(weight: torch.Tensor, scales: torch.Tensor, packed: torch.Tensor, room: Room) -> None:
    """Write the scales of whole blocks, and codes, two in a byte with the first one high."""
    count = weight.numel()
    values = room.take("values", torch.float32, count)
    wide = room.take("wide", torch.float32, count)
    cells = room.take("cells", torch.int32, count)
    codes = room.take("codes", torch.uint8, count)
    values.view(weight.shape).copy_(weight)
    torch.amax(torch.abs(values, out=wide).view(-1, BLOCK), dim=1, out=scales)
    if not math.isfinite(scales.amax().item()):
        return  # there are no cells for what is not finite
    scaled = values.view(-1, BLOCK).mul_((1.0 / scales.clamp(min=_TINY))[:, None])
    cells.copy_(torch.mul(values, _CELLS, out=wide).add_(_CELLS))
    torch.index_select(_table(), 0, cells, out=codes)
    _settle(scaled, codes)
    # Two codes as one number of 16 bits; what is above the low byte falls off.
    pairs = codes.view(torch.int16)
    packed.copy_((pairs << 4).bitwise_or_(pairs >> 8))


def _settle(scaled: torch.Tensor, codes: torch.Tensor) -> None:
    """Find the codes of numbers next to a bound by comparing them with the bounds."""
    words = codes.view(torch.int64)
    near = (words & _NEAR_WORD).view(_FOLD, -1).amax(dim=0)
    groups = near.nonzero().view(-1)
    if len(groups):
        values = scaled.view(_FOLD, -1, _GROUP)[:, groups]
        codes.view(_FOLD, -1, _GROUP)[:, groups] = torch.bucketize(values, _bounds()).to(
            torch.uint8
        )
