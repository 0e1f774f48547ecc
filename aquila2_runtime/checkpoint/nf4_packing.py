"""NF4 packing on CPU: a weight into the tensors that bitsandbytes keeps of it, bit for bit.

bitsandbytes goes over the whole weight with one operation after the other, most of the time looking
numbers up one by one. Here a stretch that fits the processor's cache goes through all of them, and
a code comes out of small tables: more than ten times as fast on one core.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import torch

from aquila2_runtime.checkpoint.prequantized import BLOCK, NESTED_BLOCK, STATE, STATE_BYTES

# Numbers that go through all operations together; whole blocks.
_STRETCH: Final = 1 << 17
# Cells from 0 to 1: the codes' bounds are at least 1/13 apart.
_CELLS: Final = 16
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


def pack_nf4(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Pack a weight with nested scales.

    Args:
        weight: ``[outputs, inputs]``, finite, of any float type, on CPU.

    Returns:
        Tensors by the names of ``PARTS``.
    """
    from bitsandbytes import functional

    bnb: Any = functional  # untyped
    code: torch.Tensor = bnb.get_4bit_type("nf4", device="cpu")
    if weight.numel() % BLOCK:
        # The last block is cut short: rare, and bitsandbytes' own way is there for it.
        packed, state = bnb.quantize_4bit(weight.contiguous(), blocksize=BLOCK, quant_type="nf4")
        scales: torch.Tensor = state.absmax
    else:
        packed, scales = _pack(weight.detach().reshape(-1), _Codes(code))
    offset = scales.mean()
    nested_scales, nested = bnb.quantize_blockwise(scales - offset, blocksize=NESTED_BLOCK)
    described = {
        "quant_type": "nf4",
        "blocksize": BLOCK,
        "dtype": str(weight.dtype).removeprefix("torch."),
        "shape": list(weight.shape),
        "nested_blocksize": nested.blocksize,
        "nested_dtype": str(nested.dtype).removeprefix("torch."),
        "nested_offset": float(offset),
    }
    text = json.dumps(described).encode().ljust(STATE_BYTES)
    return {
        "weight": packed,
        "weight.absmax": nested_scales,
        "weight.nested_absmax": nested.absmax,
        "weight.nested_quant_map": nested.code,
        "weight.quant_map": code,
        STATE: torch.frombuffer(bytearray(text), dtype=torch.uint8),
    }


class _Codes:
    """The codes of scaled numbers, found by tables: how many of the bounds each one exceeds.

    The range from -1 to 1 is cut into cells so narrow that none has two bounds in it. A number's
    cell never grows smaller when the number grows, however it was rounded on the way: so it exceeds
    all bounds of lower cells and none of higher ones, and is compared with that of its own.

    Args:
        code: The numbers that the codes stand for, ascending.
    """

    def __init__(self, code: torch.Tensor) -> None:
        bounds = (code[:-1] + code[1:]) / 2
        cells = torch.empty(len(bounds), dtype=torch.int32)
        self._find_cells(bounds, torch.empty_like(bounds), cells)
        places = torch.arange(2 * _CELLS + 2)
        self._bounds = torch.full((len(places),), torch.inf)
        self._bounds[cells.long()] = bounds
        below = (cells < places[:, None]).sum(dim=1)
        # By cell, and by whether its bound is exceeded.
        self._codes = torch.stack([below, below + 1], dim=1).view(-1).to(torch.uint8)

    def find(self, values: torch.Tensor, work: _Work, out: torch.Tensor) -> None:
        """Write the codes of numbers from -1 to 1."""
        wide, cells, above = (part[: len(values)] for part in (work.wide, work.cells, work.above))
        self._find_cells(values, wide, cells)
        torch.index_select(self._bounds, 0, cells, out=wide)
        # Into a float: torch compares several times as fast as into a bool.
        torch.gt(values, wide, out=wide)
        above.copy_(wide).add_(cells, alpha=2)
        torch.index_select(self._codes, 0, above, out=out)

    @staticmethod
    def _find_cells(values: torch.Tensor, wide: torch.Tensor, out: torch.Tensor) -> None:
        torch.mul(values, _CELLS, out=wide).add_(_CELLS)
        out.copy_(wide)


class _Work:
    """Room for one stretch, used again for the next."""

    def __init__(self, size: int) -> None:
        self.values, self.wide = torch.empty(size), torch.empty(size)
        self.cells, self.above = (torch.empty(size, dtype=torch.int32) for _ in range(2))
        self.codes = torch.empty(size, dtype=torch.uint8)


def _pack(flat: torch.Tensor, codes: _Codes) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes, two in a byte with the first one high, and the scale of every block."""
    count = flat.numel()
    packed = torch.empty(count // 2, dtype=torch.uint8)
    scales = torch.empty(count // BLOCK)
    size = min(count, _STRETCH)
    work = _Work(size)
    for start in range(0, count, size):
        stop = min(start + size, count)
        values, wide, found = (
            part[: stop - start] for part in (work.values, work.wide, work.codes)
        )
        values.copy_(flat[start:stop])
        own = scales[start // BLOCK : stop // BLOCK]
        torch.abs(values, out=wide)
        torch.amax(wide.view(-1, BLOCK), dim=1, out=own)
        values.view(-1, BLOCK).mul_((1.0 / own.clamp(min=_TINY))[:, None])
        codes.find(values, work, found)
        # Two codes as one number of 16 bits; what is above the low byte falls off.
        pairs = found.view(torch.int16)
        packed[start // 2 : stop // 2] = ((pairs << 4) | (pairs >> 8)).to(torch.uint8)
    return packed[:, None], scales
