"""Packed NF4: bitsandbytes' 4-bit weights of several projections as one, for its CPU kernel.

Blocks of 64 weights share a scale and run along a row, so rows can be joined exactly: packed bytes
and scales are concatenated, and only the second quantization of the scales is undone first. The
kernel wants rows in groups of 32 and a processor with bfloat16 products; elsewhere the modules
are left as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

_ROW_GROUP: Final = 32


def fuse_nf4(
    modules: Sequence[torch.nn.Module],
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Join 4-bit projections of one input for the CPU kernel.

    Args:
        modules: Projections; their outputs are joined in this order.

    Returns:
        The joined projection, or None where the kernel does not serve these modules.
    """
    if not all(type(module).__name__ == "Linear4bit" for module in modules):
        return None
    parts = [module.get_parameter("weight") for module in modules]
    if any(part.device.type != "cpu" for part in parts) or not _served(parts):
        return None
    from bitsandbytes import functional

    bnb: Any = functional  # untyped
    if not bnb.has_avx512bf16() or not hasattr(bnb, "_convert_weight_packed_for_cpu"):
        return None
    states: list[Any] = [part.quant_state for part in parts]  # type: ignore[attr-defined]
    rows, columns = sum(int(state.shape[0]) for state in states), int(states[0].shape[1])
    joined = bnb.QuantState(
        absmax=torch.cat([nf4_scales(bnb, state) for state in states]),
        shape=torch.Size((rows, columns)),
        code=states[0].code,
        blocksize=states[0].blocksize,
        quant_type="nf4",
        dtype=states[0].dtype,
    )
    with torch.no_grad():
        packed = torch.cat([part.detach().reshape(-1) for part in parts])
        packed, joined = bnb._convert_weight_packed_for_cpu(packed, joined)
    product = torch.ops.bitsandbytes.gemv_4bit.default
    return functools.partial(
        _product, product, packed, (rows, columns), joined.absmax, joined.code, joined.blocksize
    )


def _served(parts: Sequence[torch.nn.Parameter]) -> bool:
    for part in parts:
        state: Any = getattr(part, "quant_state", None)
        if state is None or state.quant_type != "nf4" or part.dtype != torch.uint8:
            return False
        # Packed already, in the kernel's order: its rows can no longer be joined.
        if getattr(state, "packing_format_for_cpu", False) or len(state.shape) != 2:
            return False
        if state.shape[0] % _ROW_GROUP or state.shape[1] % state.blocksize:
            return False
    states: list[Any] = [part.quant_state for part in parts]  # type: ignore[attr-defined]
    return len({(state.shape[1], state.blocksize) for state in states}) == 1


def nf4_scales(bnb: Any, state: Any) -> torch.Tensor:
    """One fp32 scale per block of a weight, their own quantization undone.

    Args:
        bnb: ``bitsandbytes.functional``.
        state: The weight's ``QuantState``.
    """
    if not state.nested:
        plain: torch.Tensor = state.absmax.float().reshape(-1)
        return plain
    wide: torch.Tensor = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
    return wide.float().reshape(-1)


def _product(
    product: Callable[..., torch.Tensor],
    packed: torch.Tensor,
    shape: tuple[int, int],
    scales: torch.Tensor,
    code: torch.Tensor,
    blocksize: int,
    states: torch.Tensor,
) -> torch.Tensor:
    return product(states, packed, shape, scales, code, blocksize)
