"""Projections: a weight laid out as its device multiplies fastest. It knows no model.

On CPU a weight is reordered once into the blocks oneDNN computes in, the form that frozen graphs of
torch's compiler use too: a product with few rows then runs at the speed of memory, about twice that
of a plain weight. Without oneDNN, or without its arithmetic for a number type, weights stay plain.

A row's result should not depend on the rows beside it. oneDNN's packed products add up in one order
for any number of rows but a single one, which is padded where it has been seen to differ: above
1,024 numbers, and in 16 bits on processors without bfloat16 products of their own. Plain products
are padded to whole groups of four rows, in which MKL shares them out among threads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Final

import torch
import torch.nn.functional as F

from aquila2_runtime.engine.joined_nf4 import join_nf4
from aquila2_runtime.engine.packed_nf4 import fuse_nf4

Projection = Callable[[torch.Tensor], torch.Tensor]

_ROW_GROUP: Final = 4
_LONG: Final = 1_024
# Rows the layout is chosen for. It serves one row as well; chosen for one it would be slow for 32.
_ROWS_HINT: Final = 512


def take_linear(parent: torch.nn.Module, *names: str, nf4_copy: bool = False) -> Projection:
    """Take projections of one input out of a module, as one.

    Args:
        parent: Loses the named modules, so that memory never holds two copies of many.
        names: Their names. The outputs are joined in this order.
        nf4_copy: Whether 4-bit weights are kept in 16 bits too, for many rows.
    """
    modules = [parent.get_submodule(name) for name in names]
    if all(type(module) is torch.nn.Linear for module in modules):
        weights = [module.get_parameter("weight").detach() for module in modules]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        taken = linear(weight)
    else:
        fused = fuse_nf4(modules) or join_nf4(modules, copy=nf4_copy)
        if fused is None:
            return functools.partial(_in_turn, modules)
        taken = fused
    for name in names:
        delattr(parent, name)
    return taken


def linear(weight: torch.Tensor) -> Projection:
    """A projection by a weight ``[outputs, inputs]``, packed where that is faster."""
    packed = pack(weight)
    if packed is None:
        on_cpu = weight.device.type == "cpu"
        return functools.partial(_plain_padded if on_cpu else _plain, weight)
    pads = weight.shape[1] > _LONG or not (weight.dtype == torch.float32 or multiplies_bfloat16())
    return PackedProjection(packed, pads)


class PackedProjection:
    """A projection by a weight in oneDNN's layout.

    Args:
        weight: The weight (see ``pack``).
        pads: Whether a single row is padded.
    """

    def __init__(self, weight: torch.Tensor, pads: bool) -> None:
        self.weight = weight
        self.pads = pads
        # Bound here: the look-up by name would cost as much as an addition.
        self._product: Callable[..., torch.Tensor] = torch.ops.mkldnn._linear_pointwise.default

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Multiply rows. ``[rows, inputs]`` to ``[rows, outputs]``."""
        product, weight = self._product, self.weight
        if self.pads and states.shape[0] == 1:
            twice = torch.cat((states, states))
            return product(twice, weight, None, "none", [], "").narrow(0, 0, 1)
        return product(states, weight, None, "none", [], "")


def pack(weight: torch.Tensor) -> torch.Tensor | None:
    """The weight in oneDNN's layout, or None where there is none for it."""
    if weight.device.type != "cpu" or packing_of(weight.dtype) is not None:
        return None
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS_HINT)
    return packed


def packing_of(dtype: torch.dtype) -> str | None:
    """Why weights of a type are not packed on this CPU; None when they are."""
    mkldnn = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:
        return "this torch has no oneDNN, or it is switched off"
    if not hasattr(mkldnn, "_linear_pointwise") or not hasattr(mkldnn, "_reorder_linear_weight"):
        return "this torch does not offer oneDNN's packed products"
    if dtype == torch.float32:
        return None
    if dtype == torch.bfloat16 and mkldnn._is_mkldnn_bf16_supported():
        return None
    return f"oneDNN has no {str(dtype).removeprefix('torch.')} products on this CPU"


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether this processor has bfloat16 products of its own, as far as torch can tell."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return supported is not None and bool(supported())


def _plain(weight: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    return F.linear(states, weight)


def _plain_padded(weight: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    rows = states.shape[0]
    missing = -rows % _ROW_GROUP
    if not missing:
        return F.linear(states, weight)
    return F.linear(F.pad(states, (0, 0, 0, missing)), weight).narrow(0, 0, rows)


def _in_turn(modules: Sequence[torch.nn.Module], states: torch.Tensor) -> torch.Tensor:
    """Modules that cannot be fused, one after the other."""
    outputs = [module(states) for module in modules]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
