"""Decoding rows on CPU: each over its own tokens, all together. It knows no requests and no runs.

The rows of a step see contexts of different lengths, strewn over the cache. Two of torch's
operations work on just that. A sampled product takes the scores of every query with the keys listed
for it, and no others; a bag of embeddings sums the listed values, each times its weight. Both read
in place, ahead of themselves, on all cores, so that a step costs about what reading its keys and
values once does: a call of the fused kernel per row takes several times as long once the cache is
larger than the processor's.

A row's sums are added up in the order of its tokens, in lanes that do not depend on the other rows,
so a row is the same number in any company.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
import warnings
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from aquila2_runtime.engine.attention.cache import PagedKVCache

# Softmax takes so many numbers at once; rows are padded to whole ones, or the width of the longest
# row would decide in which order the others' are added up.
_LANES: Final = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """What the decoding rows of a step see; the same for every layer.

    One entry per row, query head and token, in this order.

    Attributes:
        starts: Where each row and head's entries begin, and the end; int32.
            ``[rows * heads + 1]``.
        places: Each entry's place among all heads' places; int32. ``[entries]``.
        products: The same as a sparse matrix, ``[rows * heads, kv_heads * places]``; every layer
            writes its scores into it.
        cells: Each entry's place in ``scores``. ``[entries]``.
        scores: A line per row and head, -inf where there is no entry; written by every layer.
            ``[rows * heads, width]``.
    """

    starts: torch.Tensor
    places: torch.Tensor
    products: torch.Tensor
    cells: torch.Tensor
    scores: torch.Tensor


class Gathering:
    """Attends with single rows.

    Args:
        cache: The keys and values, fp32 on CPU.

    Raises:
        RuntimeError: This torch cannot (see ``obstacle``).
    """

    def __init__(self, cache: PagedKVCache) -> None:
        hindered = obstacle()
        if hindered is not None:
            raise RuntimeError(hindered)
        kv_heads, num_blocks, self._size, dim = cache.keys[0].shape
        self._kv_heads = kv_heads
        # Where query heads' places begin, and their cells; made for the heads and width seen last.
        self._first_places = torch.empty(0, 1, dtype=torch.int32)
        self._cells = torch.empty(0, 0, dtype=torch.int64)
        self._places = num_blocks * self._size
        self._within = torch.arange(self._size, dtype=torch.int32)
        # Views, made once: all heads' places in a line.
        self._keys = [keys.view(-1, dim).t() for keys in cache.key_lines]
        self._values = [values.view(-1, dim) for values in cache.value_lines]

    def list_rows(self, heads: int, blocks: torch.Tensor, lengths: torch.Tensor) -> Listing:
        """List what the decoding rows of a step see.

        Args:
            heads: Query heads.
            blocks: Every row's blocks. ``[rows, n]``.
            lengths: Tokens every row sees, at least one; int32. ``[rows]``.
        """
        counts: list[int] = lengths.tolist()
        rows, most = len(counts), max(counts)
        slots = (blocks[:, :, None].int() * self._size + self._within).view(rows, -1)
        width = -(-most // _LANES) * _LANES
        self._make_ready(heads, width)
        places = torch.empty(heads * sum(counts), dtype=torch.int32)
        cells = torch.empty(len(places), dtype=torch.int64)
        at = 0
        for row, count in enumerate(counts):
            own, shape = slice(at, at + heads * count), (heads, count)
            torch.add(self._first_places, slots[row, :count], out=places[own].view(shape))
            first_cell = row * heads * width
            torch.add(self._cells[:, :count], first_cell, out=cells[own].view(shape))
            at += heads * count
        starts = torch.zeros(rows * heads + 1, dtype=torch.int32)
        torch.cumsum(lengths.repeat_interleave(heads), 0, out=starts[1:])
        products = _sparse(starts, places, self._kv_heads * self._places)
        scores = torch.full((rows * heads, width), float("-inf"))
        return Listing(starts, places, products, cells, scores)

    def _make_ready(self, heads: int, width: int) -> None:
        """Make what depends on the query heads and the longest row alone."""
        if len(self._first_places) != heads:
            # Query head h reads key/value head h // group, as in grouped-query attention.
            own = torch.arange(heads, dtype=torch.int32) // (heads // self._kv_heads)
            self._first_places = own[:, None] * self._places
        if self._cells.shape != (heads, width):
            self._cells = torch.arange(heads * width).view(heads, width)

    def attend(
        self, layer: int, query: torch.Tensor, listing: Listing, *, sums: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend over what is listed.

        Args:
            layer: Index of the layer.
            query: fp32. ``[rows, heads, dim]``.
            listing: What the rows see.
            sums: Whether the logarithms of the sums that the softmaxes divide by are wanted.

        Returns:
            ``[rows, heads, dim]``, and the logarithms ``[rows, heads]`` or None.
        """
        dim, products, scores = query.shape[-1], listing.products, listing.scores
        # What an entry held is of its own row: were it not finite, the row would be lost anyway.
        torch.sparse.sampled_addmm(
            products, query.reshape(-1, dim), self._keys[layer],
            beta=0.0, alpha=dim**-0.5, out=products,
        )  # fmt: skip
        scores.view(-1).scatter_(0, listing.cells, products.values())
        weights = scores.softmax(-1).view(-1).index_select(0, listing.cells)
        # What F.embedding_bag calls once it has looked at its arguments.
        mixed = torch.embedding_bag(
            self._values[layer], listing.places, listing.starts, False, 0, False, weights, True
        )[0]
        logs = scores.logsumexp(-1).view(query.shape[:2]) if sums else None
        return mixed.view(query.shape), logs


def _sparse(starts: torch.Tensor, places: torch.Tensor, columns: int) -> torch.Tensor:
    zeros, size = torch.zeros(len(places)), (len(starts) - 1, columns)
    return torch.sparse_csr_tensor(starts, places, zeros, size=size, check_invariants=False)


@functools.cache
def obstacle() -> str | None:
    """Why decoding rows cannot be computed so with this torch; None where they can."""
    # torch's one notice that sparse matrices are young: nobody here can act on it. It is named, and
    # stays named: catch_warnings would put back filters that other threads have changed meanwhile.
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
    found: list[str | None] = []
    # In a thread that ends: the caller's would keep the workers that OpenMP starts for it, and with
    # more workers than cores the engine's no longer wait actively: a third of the speed.
    probe = threading.Thread(target=lambda: found.append(_try_products()), daemon=True)
    probe.start()
    probe.join()
    return found[0]


def _try_products() -> str | None:
    try:
        products = _sparse(torch.tensor([0, 1]).int(), torch.tensor([0]).int(), 1)
        one = torch.ones(1, 1)
        torch.sparse.sampled_addmm(products, one, one, beta=0.0, out=products)
    except RuntimeError as error:
        return f"this torch has no sampled products ({error})"
    return None
