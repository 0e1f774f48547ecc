"""Joined NF4: bitsandbytes' 4-bit weights of several projections as one, for its CUDA kernels.

bitsandbytes multiplies by packed weights directly up to a number of rows that depends on the
weight's shape, and unpacks the whole weight every time above it: a wide joined projection takes the
direct way several times longer than its parts would. Joining is exact (see ``packed_nf4``).

Where many rows are common and there is memory for it, a 16-bit copy made once serves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F

from aquila2_runtime.engine.packed_nf4 import nf4_scales

# With a copy: up to so many rows the packed weight is read, which is a quarter of the bytes. From
# here on bitsandbytes would begin to unpack narrow weights for every step.
COPY_FROM: Final = 6


class JoinedNF4:
    """One projection by joined packed weights.

    Args:
        packed: The packed weights. ``[bytes, 1]``.
        state: Their ``QuantState``, of all rows.
        copy: The same weights in 16 bits, ``[outputs, inputs]``, or None.
    """

    def __init__(self, packed: torch.Tensor, state: Any, copy: torch.Tensor | None) -> None:
        import bitsandbytes

        library: Any = bitsandbytes
        self._multiply = library.matmul_4bit
        self._packed = packed
        self._state = state
        self._copy = copy

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Multiply ``[rows, inputs]``."""
        if self._copy is not None and states.shape[0] >= COPY_FROM:
            return F.linear(states, self._copy)
        result: torch.Tensor = self._multiply(states, self._packed, quant_state=self._state)
        return result


def join_nf4(modules: Sequence[torch.nn.Module], *, copy: bool) -> JoinedNF4 | None:
    """Join 4-bit projections of one input.

    Args:
        modules: Projections; their outputs are joined in this order.
        copy: Whether to keep the weights in 16 bits as well.

    Returns:
        The joined projection, or None where these modules are something else.
    """
    if not all(type(module).__name__ == "Linear4bit" for module in modules):
        return None
    parts = [module.get_parameter("weight") for module in modules]
    states: list[Any] = [getattr(part, "quant_state", None) for part in parts]
    if not all(_joins(state, states[0]) for state in states):
        return None
    from bitsandbytes import functional

    bnb: Any = functional
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
        packed = torch.cat([part.detach().reshape(-1, 1) for part in parts])
        wide = bnb.dequantize_4bit(packed, joined) if copy else None
    if wide is not None:
        # The type that was packed need not be the one that is computed in.
        wide = wide.to(getattr(modules[0], "compute_dtype", None) or wide.dtype)
    return JoinedNF4(packed, joined, wide)


def _joins(state: Any, first: Any) -> bool:
    """Whether a weight's rows can stand below the first's, block by block."""
    if state is None or state.quant_type != "nf4" or len(state.shape) != 2:
        return False
    # Already packed in the order of the CPU kernel.
    if getattr(state, "packing_format_for_cpu", False):
        return False
    same = state.shape[1] == first.shape[1] and state.blocksize == first.blocksize
    return bool(same and state.shape[1] % state.blocksize == 0)
