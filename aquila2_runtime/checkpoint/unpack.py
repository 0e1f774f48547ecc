"""4-bit weights of GPTQ and AWQ back into numbers, exactly. It knows no files and no model.

A weight is ``scale * (q - zero)``, both of its group, formed in fp32. Eight 4-bit numbers share a
32-bit word, lowest bits first:

* GPTQ packs ``q`` along the inputs and zero points along the outputs, in order. Its first format
  stores zero points less one. ``g_idx`` names each input's group where groups follow the order of
  importance (act-order).
* AWQ (GEMM) packs both along the outputs, in the order 0, 2, 4, 6, 1, 3, 5, 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import torch

from aquila2_runtime.checkpoint.packing import BITS, PER_WORD
from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.packing import Packing

_LOWEST: Final = (1 << BITS) - 1
# Which of eight outputs each place of an AWQ word holds.
_AWQ_ORDER: Final = (0, 2, 4, 6, 1, 3, 5, 7)


def unpack(name: str, packing: Packing, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return a weight's values in fp32, ``[out, in]``.

    Args:
        name: The weight's name, for messages.
        packing: How it is stored.
        parts: Its tensors.

    Raises:
        WeightsError: An input is assigned to a group that does not exist.
    """
    scales = parts["scales"].float()  # [groups, out]
    if packing.method == "awq":
        numbers = _words(parts["qweight"], _AWQ_ORDER)  # [in, out]
        zeros = _words(parts["qzeros"], _AWQ_ORDER)  # [groups, out]
    else:
        numbers = _words(parts["qweight"].t(), range(PER_WORD)).t()  # [in, out]
        zeros = _words(parts["qzeros"], range(PER_WORD))  # [groups, out]
        if packing.zeros_less_one:
            zeros = (zeros + 1) & _LOWEST
    group = _groups(name, packing, numbers.shape[0], scales.shape[0], parts.get("g_idx"))
    # Group by group would be as exact; one pass keeps act-order and order the same code.
    weight = numbers.float().sub_(zeros.float()[group]).mul_(scales[group])
    return weight.t().contiguous()


def _groups(
    name: str, packing: Packing, inputs: int, groups: int, g_idx: torch.Tensor | None
) -> torch.Tensor:
    """The group of each input. ``[in]``."""
    in_order = torch.arange(inputs) // (packing.group_size or inputs)
    if g_idx is None:
        return in_order
    found = g_idx.long()
    if bool((found < 0).any()) or bool((found >= groups).any()):
        raise WeightsError(
            f"Tensor {name} assigns inputs to groups that do not exist: g_idx must lie in 0 to "
            f"{groups - 1}.",
            parameter=name,
            hint="Fetch the file again; it may be damaged.",
        )
    if not packing.act_order and not torch.equal(found, in_order):
        raise WeightsError(
            f"Tensor {name} has a g_idx out of order, but desc_act is false.",
            parameter=name,
            hint="quantization_config is of another checkpoint, or wrong about desc_act.",
        )
    return found


def _words(words: torch.Tensor, order: range | tuple[int, ...]) -> torch.Tensor:
    """Take words apart: ``[rows, words]`` into ``[rows, words * 8]`` numbers from 0 to 15."""
    rows, count = words.shape
    numbers = torch.empty(rows, count, PER_WORD, dtype=torch.uint8)
    for place, at in enumerate(order):
        # The sign bit is shifted in from above, and masked away.
        numbers[:, :, at] = ((words >> (BITS * place)) & _LOWEST).to(torch.uint8)
    return numbers.view(rows, count * PER_WORD)
