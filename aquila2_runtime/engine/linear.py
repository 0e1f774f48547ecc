"""Projections: a weight laid out as its device multiplies fastest. It knows no model.

On CPU a weight is reordered once into the blocks oneDNN computes in, the form that frozen graphs of
torch's compiler use too: a product with few rows then runs at the speed of memory, about twice that
of a plain weight. Small weights are left to BLAS (see ``small_linear``). Without oneDNN, or without
its arithmetic for a number type, weights stay plain.

A row's result should not depend on the rows beside it. oneDNN's packed products add up in one order
for any number of rows but a single one, which is padded where it has been seen to differ: above
1,024 numbers, and in 16 bits on processors without bfloat16 products of their own; and but for some
numbers of rows on processors with AMX, where rows go in slices (see ``row_slices``). Plain products
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
from aquila2_runtime.engine.row_slices import FEW, slice_of, sliced
from aquila2_runtime.engine.small_linear import SmallProjection, padded, small_projection

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
        taken: Projection = linear(weight)
    else:
        fused = fuse_nf4(modules) or join_nf4(modules, copy=nf4_copy)
        if fused is None:
            return functools.partial(_in_turn, modules)
        taken = fused
    for name in names:
        delattr(parent, name)
    return taken


def linear(weight: torch.Tensor) -> WeightProjection:
    """A projection by a weight ``[outputs, inputs]``, packed where that is faster."""
    small = small_projection(weight)
    if small is not None:
        return small
    packed = pack(weight)
    if packed is None:
        return PlainProjection(weight)
    pads = weight.shape[1] > _LONG or not (weight.dtype == torch.float32 or multiplies_bfloat16())
    least = 2 if pads else 1
    plain = PackedProjection(packed, least)
    return PackedProjection(packed, least, slice_of(weight, plain, _packed_product))


class PlainProjection:
    """A projection by a weight as it is.

    Args:
        weight: ``[outputs, inputs]``.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight
        self._product = _plain_padded if weight.device.type == "cpu" else _plain

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Multiply rows. ``[rows, inputs]`` to ``[rows, outputs]``."""
        return self._product(self.weight, states)

    @property
    def num_bytes(self) -> int:
        """Memory of the weight."""
        return self.weight.nbytes

    def plain(self) -> torch.Tensor:
        """The weight, ``[outputs, inputs]``."""
        return self.weight


class PackedProjection:
    """A projection by a weight in oneDNN's layout.

    Args:
        weight: The weight (see ``pack``).
        least: Fewer rows are padded to as many.
        many: How more than a few rows are multiplied (see ``slice_of``).
    """

    def __init__(self, weight: torch.Tensor, least: int, many: int | None = None) -> None:
        self.weight = weight
        self.least = least
        self.many = many
        # Bound here: the look-up by name would cost as much as an addition.
        self._product: Callable[..., torch.Tensor] = torch.ops.mkldnn._linear_pointwise.default

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Multiply rows. ``[rows, inputs]`` to ``[rows, outputs]``."""
        product, weight, rows = self._product, self.weight, states.shape[0]
        if rows < self.least:
            more = padded(states, self.least)
            return product(more, weight, None, "none", [], "").narrow(0, 0, rows)
        if self.many is not None and rows > FEW:
            return sliced(
                lambda some: product(some, weight, None, "none", [], ""), states, self.many
            )
        return product(states, weight, None, "none", [], "")

    @property
    def num_bytes(self) -> int:
        """Memory of the weight, which is padded to whole blocks."""
        return int(torch.ops.mkldnn._nbytes(self.weight))

    def plain(self) -> torch.Tensor:
        """The weight as it was before it was packed, ``[outputs, inputs]``: a copy."""
        dense: torch.Tensor = self.weight.to_dense()
        return dense


# What a weight in its own numbers becomes.
WeightProjection = SmallProjection | PlainProjection | PackedProjection


def pack(weight: torch.Tensor) -> torch.Tensor | None:
    """The weight in oneDNN's layout, or None where there is none for it."""
    if weight.device.type != "cpu" or packing_of(weight.dtype) is not None:
        return None
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS_HINT)
    return packed


def _packed_product(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """A product of any number of rows at once, for trials."""
    return PackedProjection(torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_HINT), least=1)


def packing_of(dtype: torch.dtype) -> str | None:
    """Why weights of a type are not packed on this CPU; None when they are."""
    mkldnn = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:
        return "this torch has no oneDNN, or it is switched off"
    needed = ("_linear_pointwise", "_reorder_linear_weight", "_nbytes")
    if not all(hasattr(mkldnn, name) for name in needed):
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
