"""NF4 packing on CPU: a weight into the tensors that bitsandbytes keeps of it, bit for bit.

bitsandbytes goes over the whole weight with one operation after the other, most of the time looking
numbers up one by one. Here a stretch that fits the processor's cache goes through all of them, and
a code is the number of bounds that a value exceeds, counted for many values at once: four to five
times as fast on one core.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

import torch

from aquila2_runtime.checkpoint.prequantized import BLOCK, NESTED_BLOCK, STATE, STATE_BYTES
from aquila2_runtime.checkpoint.sources import cannot_hold, is_finite

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.sources import PackedSource, Source, Watch

# Numbers that go through all operations together; whole blocks.
_STRETCH: Final = 1 << 17
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
        packed, scales = _pack(weight.detach().reshape(-1), ((code[:-1] + code[1:]) / 2).tolist())
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


def packing_sources(
    sources: Mapping[str, Source | PackedSource],
    weights: Collection[str],
    dtype: torch.dtype,
    watch: Watch,
) -> dict[str, Source | PackedSource | PartSource]:
    """Replace weights by the tensors they are packed into.

    Args:
        sources: By name.
        weights: Names of those to pack.
        dtype: Type they are rounded to first, as transformers does.
        watch: Told what goes wrong.
    """
    packed: dict[str, Source | PackedSource | PartSource] = {}
    for name, source in sources.items():
        if name not in weights:
            packed[name] = source
            continue
        whole, module = PackingSource(name, source, dtype, watch), name.removesuffix(".weight")
        packed |= {f"{module}.{part}": PartSource(whole, part) for part in PARTS}
    return packed


class PackingSource:
    """A weight that is packed when the first of its tensors is asked for.

    Args:
        name: The weight's.
        source: Gives its values.
        dtype: Type they are rounded to first.
        watch: Told what goes wrong.
    """

    def __init__(
        self, name: str, source: Source | PackedSource, dtype: torch.dtype, watch: Watch
    ) -> None:
        self.names = source.names
        self._name = name
        self._source = source
        self._dtype = dtype
        self._watch = watch
        self._lock = threading.Lock()
        self._parts: dict[str, torch.Tensor] | None = None

    def take(self, part: str) -> torch.Tensor:
        """Give one of the tensors and keep it no longer; transformers asks for each once."""
        with self._lock:
            if self._parts is None:
                self._parts = pack_nf4(self._rounded())
            return self._parts.pop(part)

    def _rounded(self) -> torch.Tensor:
        rounded: torch.Tensor = self._source[...].to(self._dtype)
        if not is_finite(rounded):
            self._watch.failure = self._watch.failure or cannot_hold(self._name, self._dtype)
            raise self._watch.failure
        return rounded


class PartSource:
    """One of a weight's tensors: all that transformers asks of it."""

    def __init__(self, weight: PackingSource, part: str) -> None:
        # The file's own tensors are counted once, with the first part.
        self.names = weight.names if part == "weight" else ()
        self._weight = weight
        self._part = part

    def get_dtype(self) -> str:
        """The type as safetensors spells it."""
        return PARTS[self._part]

    def __getitem__(self, index: object) -> torch.Tensor:
        whole: torch.Tensor = self._weight.take(self._part)[index]  # type: ignore[index]
        return whole


def _pack(flat: torch.Tensor, bounds: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes, two in a byte with the first one high, and the scale of every block."""
    count = flat.numel()
    packed = torch.empty(count // 2, dtype=torch.uint8)
    scales = torch.empty(count // BLOCK)
    size = min(count, _STRETCH)
    wide, magnitudes = torch.empty(size), torch.empty(size)
    codes, above = torch.empty(size, dtype=torch.uint8), torch.empty(size, dtype=torch.bool)
    for start in range(0, count, size):
        stop = min(start + size, count)
        length = stop - start
        values, code, mask = wide[:length], codes[:length], above[:length]
        values.copy_(flat[start:stop])
        own = scales[start // BLOCK : stop // BLOCK]
        torch.abs(values, out=magnitudes[:length])
        torch.amax(magnitudes[:length].view(-1, BLOCK), dim=1, out=own)
        values.view(-1, BLOCK).mul_((1.0 / own.clamp(min=_TINY))[:, None])
        torch.gt(values, bounds[0], out=mask)
        code.copy_(mask.view(torch.uint8))
        for bound in bounds[1:]:
            torch.gt(values, bound, out=mask)
            code.add_(mask.view(torch.uint8))
        # Two codes as one number of 16 bits; what is above the low byte falls off.
        pairs = code.view(torch.int16)
        packed[start // 2 : stop // 2] = ((pairs << 4) | (pairs >> 8)).to(torch.uint8)
    return packed[:, None], scales
