"""Int8 packing on CPU: a weight into the tensors that bitsandbytes keeps of it, bit for bit.

bitsandbytes makes several copies of the whole weight on the way, the widest of four bytes a number.
Here some rows at a time go through all operations: about ten times as fast on one core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch

# Numbers that go through all operations together, in whole rows.
_STRETCH: Final = 1 << 17
_LARGEST: Final = 127.0

# Names (after the projection's) of the tensors that make up a weight, by how safetensors spells
# their types.
PARTS: Final[Mapping[str, str]] = {"weight": "I8", "SCB": "F32", "weight_format": "U8"}


def pack_int8(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Pack a weight, each row with a scale.

    Args:
        weight: ``[outputs, inputs]``, finite, of any float type, on CPU. bitsandbytes packs from
            float16, whatever it is given: a scale is infinite where a number exceeds that.

    Returns:
        Tensors by the names of ``PARTS``.
    """
    out, inputs = weight.shape
    packed, scales = torch.empty(out, inputs, dtype=torch.int8), torch.empty(out)
    rows = min(out, max(1, _STRETCH // inputs))
    half = torch.empty(rows, inputs, dtype=torch.float16)
    values, magnitudes = torch.empty(rows, inputs), torch.empty(rows, inputs)
    for start in range(0, out, rows):
        stop = min(start + rows, out)
        narrow, wide, sizes = (part[: stop - start] for part in (half, values, magnitudes))
        wide.copy_(narrow.copy_(weight[start:stop]))
        own = scales[start:stop]
        torch.amax(torch.abs(wide, out=sizes), dim=1, out=own)
        packed[start:stop] = wide.mul_((_LARGEST / own)[:, None]).round_()
    # By rows.
    return {"weight": packed, "SCB": scales, "weight_format": torch.zeros((), dtype=torch.uint8)}
