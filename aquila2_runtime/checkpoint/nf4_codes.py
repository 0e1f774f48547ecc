"""NF4 codes of a stretch of numbers, bit for bit bitsandbytes'. It knows no weights.

A number is divided by the largest magnitude of its block and gets the code whose number is nearest.
A bfloat16 number's code follows from seven bits of that magnitude and, beside its own sign and
seven bits, from how many powers of two it is below: one look-up in a table of them all, between
operations on integers of 16 bits. Other numbers go by where they lie between -1 and 1: one look-up
gives the codes of all but the few that lie next to a bound.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, Final

import torch

from aquila2_runtime.checkpoint.magnitudes import magnitudes
from aquila2_runtime.checkpoint.prequantized import BLOCK

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.room import Room

# Of a bfloat16 number: bits behind the leading one, and those of a magnitude that say which power
# of two it begins with.
_BITS: Final = 7
_POWERS: Final = 0x7F80
# So many powers of two below the largest, every number is next to zero.
_DEPTH: Final = 6 << _BITS
# Magnitudes whose reciprocals and products are rounded as those between 1 and 2 are.
_LEAST: Final = _DEPTH
_BEYOND: Final = 253 << _BITS

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
_VAST: Final = 1e30


def encode(weight: torch.Tensor, scales: torch.Tensor, packed: torch.Tensor, room: Room) -> None:
    """Find the scales and codes of whole blocks.

    Args:
        weight: Their numbers, contiguous.
        scales: Gets a scale a block; one is not finite where a number is not, and there are no
            codes then.
        packed: Gets the codes, two in a byte with the first one high.
        room: For what is only passed through.
    """
    codes = room.take("codes", torch.uint8, weight.numel())
    if weight.dtype == torch.bfloat16 and _by_bits(weight, scales, codes, room):
        pass
    elif not _by_cells(weight, scales, codes, room):
        return
    # Two codes as one number of 16 bits; what is above the low byte falls off.
    pairs = codes.view(torch.int16)
    low = torch.bitwise_right_shift(pairs, 8, out=room.take("low", torch.int16, len(pairs)))
    packed.copy_(pairs.bitwise_left_shift_(4).bitwise_or_(low))


@functools.cache
def _bounds() -> torch.Tensor:
    """The bounds between the numbers that codes stand for, ascending."""
    from bitsandbytes import functional

    untyped: Any = functional
    code: torch.Tensor = untyped.get_4bit_type("nf4", device="cpu")
    return (code[:-1] + code[1:]) / 2


def _by_bits(weight: torch.Tensor, scales: torch.Tensor, codes: torch.Tensor, room: Room) -> bool:
    """Find codes from bits, unless a block's magnitudes are extreme or not finite."""
    bits = weight.view(-1, BLOCK).view(torch.int16)
    values = magnitudes(bits, room)
    top = values.amax(dim=1)
    some = torch.where(top == 0, _LEAST, top)
    if not bool((some.amin() >= _LEAST) & (some.amax() < _BEYOND)):
        return False
    scales.copy_(top.view(torch.bfloat16))
    # What every number of a block is above the least that is told from zero; of zeros that is 0.
    floor = torch.bitwise_and(top, _POWERS).sub_(_DEPTH - (1 << _BITS)).clamp_(min=0)
    values.sub_(floor[:, None]).clamp_(min=0)
    # Below zero the table's row goes the other way.
    signs = room.take("signs", torch.int16, *bits.shape)
    values.bitwise_xor_(torch.bitwise_right_shift(bits, 15, out=signs))
    row = top.bitwise_and_((1 << _BITS) - 1).int().mul_(2 * _DEPTH).add_(_DEPTH)
    places = room.take("cells", torch.int32, *bits.shape).copy_(values).add_(row[:, None])
    torch.index_select(_table_of_bits(), 0, places.view(-1), out=codes)
    return True


@functools.cache
def _table_of_bits() -> torch.Tensor:
    """Codes by the largest magnitude's bits, then from -1 to 1 by a number's powers and bits."""
    behind = 1 << _BITS
    largest = 1 + torch.arange(behind) / behind
    steps = torch.arange(_DEPTH)
    number = (1 + steps % behind / behind) * torch.exp2((steps // behind - 5).float())
    scaled = number * (1.0 / largest)[:, None]
    above, below = (torch.bucketize(side, _bounds()) for side in (scaled, -scaled))
    return torch.cat([below.flip(1), above], dim=1).to(torch.uint8).view(-1)


def _by_cells(weight: torch.Tensor, scales: torch.Tensor, codes: torch.Tensor, room: Room) -> bool:
    """Find codes from values, unless some are not finite."""
    count = weight.numel()
    values = room.take("values", torch.float32, count)
    wide = room.take("wide", torch.float32, count)
    cells = room.take("cells", torch.int32, count)
    values.view(weight.shape).copy_(weight)
    torch.amax(torch.abs(values, out=wide).view(-1, BLOCK), dim=1, out=scales)
    if not math.isfinite(scales.amax().item()):
        return False  # there are no cells for what is not finite
    by = 1.0 / scales.clamp(min=_TINY)
    # In cells, which are as exact; together, unless that overflows.
    once = by.amax().item() < _VAST
    scaled = values.view(-1, BLOCK).mul_((by * _CELLS if once else by)[:, None])
    if not once:
        scaled.mul_(_CELLS)
    cells.copy_(torch.add(values, _CELLS, out=wide))
    torch.index_select(_table_of_cells(), 0, cells, out=codes)
    _settle(scaled, codes)
    return True


@functools.cache
def _table_of_cells() -> torch.Tensor:
    """The codes of cells, with ``_NEAR`` where numbers of a cell may have different ones."""
    places = (_bounds().double() + 1) * _CELLS
    # One more than there are: rounding may carry a number of 1 across.
    low = torch.arange(2 * _CELLS + 2, dtype=torch.float64)
    below = torch.searchsorted(places, low - _MARGIN)
    above = torch.searchsorted(places, low + 1 + _MARGIN)
    return (below + _NEAR * (above > below)).to(torch.uint8)


def _settle(scaled: torch.Tensor, codes: torch.Tensor) -> None:
    """Find the codes of numbers next to a bound by comparing them with the bounds."""
    words = codes.view(torch.int64)
    near = (words & _NEAR_WORD).view(_FOLD, -1).amax(dim=0)
    groups = near.nonzero().view(-1)
    if len(groups):
        values = scaled.view(_FOLD, -1, _GROUP)[:, groups]
        found = torch.bucketize(values, _bounds() * _CELLS)
        codes.view(_FOLD, -1, _GROUP)[:, groups] = found.to(torch.uint8)
