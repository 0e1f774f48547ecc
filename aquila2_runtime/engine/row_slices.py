"""RowSlices: how many rows at a time a packed product takes, so that none depends on the others.

oneDNN chooses by the number of rows in which pieces it adds up a long sum. On processors with AMX
its bfloat16 products of 512 inputs and more come out in other last bits for some numbers of rows in
between than for few and for many. So it is looked at, once for each size of weight, whether a
product of many rows is the same as products of few. Where it is not, rows are multiplied in slices
of one size that is, and the rest a few at a time or padded to such a slice. It knows no weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F

# Up to so many rows a product is computed as that of any fewer.
FEW: Final = 32
# Of so many rows and no more the same is hoped; the first that holds is taken.
_MANY: Final = (512, 256)
# Shorter sums are added up in one piece.
_SHORTEST: Final = 512
# A padded slice of many rows takes as long as about so many slices of few.
_SLICES: Final = 4
# Numbers of rows that must all give the same; where they do, no slices are needed. Not more of
# them: oneDNN compiles a kernel for each and keeps it.
_TRIED: Final = (100, 48, 160, 255, 64, 383, 512)
# Another weight of so many numbers is made in no time.
_CHEAP: Final = 1 << 22
# By outputs, inputs and threads.
_FOUND: Final[dict[tuple[int, int, int], int | None]] = {}

Product = Callable[[torch.Tensor], torch.Tensor]


def sliced(product: Product, states: torch.Tensor, many: int) -> torch.Tensor:
    """Multiply rows in slices.

    Args:
        product: Multiplies ``[rows, inputs]``.
        states: More than ``FEW`` rows.
        many: Rows of a slice of many; 0 where there is no such number.
    """
    rows = states.shape[0]
    whole = rows // many * many if many else 0
    parts = [product(states[at : at + many]) for at in range(0, whole, many)] if whole else []
    rest = states[whole:]
    if many and len(rest) > _SLICES * FEW:
        padded = F.pad(rest, (0, 0, 0, many - len(rest)))
        parts.append(product(padded)[: len(rest)])
    else:
        parts += [product(some) for some in rest.split(FEW) if len(some)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def slice_of(
    weight: torch.Tensor, own: Product, make: Callable[[torch.Tensor], Product]
) -> int | None:
    """In which slices rows are to be multiplied by weights of a size.

    Args:
        weight: One of them, ``[outputs, inputs]``.
        own: Its product.
        make: Lays out another weight and gives its product.

    Returns:
        None where any number of rows gives the same; otherwise ``many`` for ``sliced``.
    """
    suspect = weight.dtype == torch.bfloat16 and weight.shape[1] >= _SHORTEST and has_amx()
    if not suspect:
        return None
    outputs, inputs = weight.shape
    size = outputs, inputs, torch.get_num_threads()
    if size not in _FOUND:
        if weight.numel() <= _CHEAP:
            # One that is certain to tell: a weight may be all zeros.
            generator = torch.Generator().manual_seed(1)
            own = make(torch.randn(outputs, inputs, generator=generator).bfloat16())
        _FOUND[size] = _try(own, inputs)
    return _FOUND[size]


@functools.cache
def has_amx() -> bool:
    """Whether this processor multiplies by tiles, as far as torch can tell."""
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return supported is None or bool(supported())


def _try(product: Product, inputs: int) -> int | None:
    generator = torch.Generator().manual_seed(2)
    states = torch.randn(max(_MANY), inputs, generator=generator).bfloat16()
    few = torch.cat([product(some) for some in states.split(FEW)])

    def same(rows: int) -> bool:
        first, last = states[:rows], states[-rows:]
        return torch.equal(product(first), few[:rows]) and torch.equal(product(last), few[-rows:])

    if all(same(rows) for rows in _TRIED):
        return None
    return next((rows for rows in _MANY if same(rows)), 0)
