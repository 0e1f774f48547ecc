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
import itertools
import threading
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from aquila2_runtime.engine.attention.cache import PagedKVCache

# A row and head has so many entries at a time, the last ones hidden: softmax works on whole lanes,
# and what a row adds up then never depends on its length.
_LANES: Final = 16
# Hidden entries that every row has at least, so that a listing can grow in place for some steps.
_ROOM: Final = 8
_HIDDEN: Final = float("-inf")
_NOTICES: Final = (
    "Sparse CSR tensor support is in beta state",
    "Sparse invariant checks are implicitly disabled",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """What the decoding rows of a step see; the same for every layer.

    One entry per row, query head and token, in this order, and hidden ones behind them.

    Attributes:
        blocks: Every row's blocks. ``[rows, n]``.
        lengths: Tokens every row sees; int32. ``[rows]``.
        room: Tokens that can be added to every row.
        ends: The entry of each row and head that its next token would take. ``[rows * heads]``.
        starts: Where each row and head's entries begin, and the end; int32.
            ``[rows * heads + 1]``.
        places: Each entry's place among all heads' places; the first where hidden; int32.
            ``[entries]``.
        mask: 0, or -inf where hidden. ``[entries]``.
        products: The same as a sparse matrix, ``[rows * heads, kv_heads * places]``; every layer
            writes its scores into it.
        scores: Its entries. ``[entries]``.
        groups: Views of the scores, a line per row and head; neighbours with equally many
            entries in one view. ``[lines, entries of each]``.
    """

    blocks: torch.Tensor
    lengths: torch.Tensor
    room: int
    ends: torch.Tensor
    starts: torch.Tensor
    places: torch.Tensor
    mask: torch.Tensor
    products: torch.Tensor
    scores: torch.Tensor
    groups: list[torch.Tensor]


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
        # Where query heads' places begin; made for the heads seen last.
        self._first_places = torch.empty(0, 1, dtype=torch.int32)
        self._places = num_blocks * self._size
        self._within = torch.arange(self._size, dtype=torch.int32)
        # Views, made once: all heads' places in a line, a column of keys and a row of values each.
        self._keys = [keys.view(-1, dim).t() for keys in cache.key_lines]
        self._values = [values.view(-1, dim) for values in cache.value_lines]

    def list_rows(self, heads: int, blocks: torch.Tensor, lengths: torch.Tensor) -> Listing:
        """List what the decoding rows of a step see.

        Args:
            heads: Query heads.
            blocks: Every row's blocks. ``[rows, n]``.
            lengths: Tokens every row sees, at least one; int32. ``[rows]``.
        """
        if len(self._first_places) != heads:
            # Query head h reads key/value head h // group, as in grouped-query attention.
            own = torch.arange(heads, dtype=torch.int32) // (heads // self._kv_heads)
            self._first_places = own[:, None] * self._places
        counts: list[int] = lengths.tolist()
        widths = [-(-(count + _ROOM) // _LANES) * _LANES for count in counts]
        seen = self._lines(blocks, lengths, max(widths))
        parts: list[torch.Tensor] = []
        row = 0
        for width, same in itertools.groupby(widths):
            some = slice(row, row + len(list(same)))
            parts.append((self._first_places + seen[some, None, :width]).view(-1))
            row = some.stop
        places = torch.cat(parts)
        starts = torch.zeros(len(counts) * heads + 1, dtype=torch.int32)
        per_head = torch.tensor(widths, dtype=torch.int32).repeat_interleave(heads)
        torch.cumsum(per_head, 0, out=starts[1:])
        ends = starts[:-1].long() + lengths.repeat_interleave(heads)
        products = _sparse(starts, places, self._kv_heads * self._places)
        return Listing(
            blocks,
            lengths,
            min(width - count for width, count in zip(widths, counts, strict=True)),
            ends,
            starts,
            places,
            _mask(starts, ends),
            products,
            products.values(),
            grouped_lines(products.values(), heads, widths),
        )

    def _lines(self, blocks: torch.Tensor, lengths: torch.Tensor, width: int) -> torch.Tensor:
        """Every row's places within a head. ``[rows, width]``."""
        more = -(-width // self._size) - blocks.shape[1]
        table = F.pad(blocks.int(), (0, max(more, 0)))
        places = (table[:, :, None] * self._size + self._within).view(len(lengths), -1)[:, :width]
        behind = torch.arange(width, dtype=torch.int32) >= lengths[:, None]
        # Hidden entries read the row's own first token: another's might not be finite.
        return torch.where(behind, places[:, :1], places)

    def next_token(
        self,
        listing: Listing,
        blocks: torch.Tensor,
        lengths: torch.Tensor,
        slots: torch.Tensor,
        *,
        follows: bool = False,
    ) -> Listing | None:
        """The listing of the step after, if its rows see what they saw and one token more.

        The old listing is written over. That is a tenth of the work of a new one.

        Args:
            listing: Of the step before.
            blocks: As for ``list_rows``.
            lengths: As for ``list_rows``.
            slots: The rows' own places in the cache. ``[rows]``.
            follows: Whether it is known already that the rows are the same.

        Returns:
            None where a new one must be made; the old one is as it was then.
        """
        if not listing.room:
            return None
        if not follows and not (
            torch.equal(listing.lengths + 1, lengths) and goes_on(listing.blocks, blocks)
        ):
            return None
        new = torch.add(slots[:, None], self._first_places.view(1, -1))
        listing.places.scatter_(0, listing.ends, new.view(-1).int())
        listing.mask.index_fill_(0, listing.ends, 0.0)
        listing.ends.add_(1)
        room = listing.room - 1
        return dataclasses.replace(listing, blocks=blocks, lengths=lengths, room=room)

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
        scores.add_(listing.mask)
        # Their sums come out of the softmax, which does not depend on how many entries are hidden:
        # the highest score's share is 1 / sum.
        peaks = [group.amax(dim=-1) for group in listing.groups] if sums else []
        for group in listing.groups:
            torch.softmax(group, -1, out=group)
        logs: torch.Tensor | None = None
        if sums:
            shares = torch.cat([group.amax(dim=-1) for group in listing.groups])
            logs = (torch.cat(peaks) - shares.log()).view(query.shape[:2])
        # What F.embedding_bag calls once it has looked at its arguments.
        mixed = torch.embedding_bag(
            self._values[layer], listing.places, listing.starts, False, 0, False, scores, True
        )[0]
        return mixed.view(query.shape), logs

    def seen(
        self, listing: Listing, _slots: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """What ``ScriptedStep`` takes of a listing: tensors, and the groups of scores."""
        return [
            listing.products, listing.scores, listing.mask, listing.places, listing.starts,
        ], listing.groups  # fmt: skip

    def stored(self) -> Sequence[Sequence[torch.Tensor]]:
        """What ``ScriptedStep`` takes of every layer: keys and values as they are read."""
        return list(zip(self._keys, self._values, strict=True))


def goes_on(before: torch.Tensor, now: torch.Tensor) -> bool:
    """Whether tables are those of the step before, with or without a block more."""
    if torch.equal(before, now):
        return True
    if before.shape[1] > now.shape[1]:
        return False
    same = before == now.narrow(1, 0, before.shape[1])
    # Block 0 is nobody's: it fills up tables.
    return bool(same.logical_or_(before == 0).all())


def _mask(starts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """0, and -inf from every line's end to the start of the next."""
    hidden = ends[:, None] + torch.arange(_ROOM + _LANES)
    mask = torch.zeros(int(starts[-1]))
    return mask.index_fill_(0, hidden[hidden < starts[1:, None]], _HIDDEN)


def grouped_lines(scores: torch.Tensor, heads: int, widths: Sequence[int]) -> list[torch.Tensor]:
    """Views of the scores, a line per row and head; neighbours of one width in one view."""
    found: list[torch.Tensor] = []
    at = 0
    for width, rows in itertools.groupby(widths):
        end = at + heads * sum(rows)
        found.append(scores[at:end].view(-1, width))
        at = end
    return found


def _sparse(starts: torch.Tensor, places: torch.Tensor, columns: int) -> torch.Tensor:
    zeros, size = torch.zeros(len(places)), (len(starts) - 1, columns)
    return torch.sparse_csr_tensor(starts, places, zeros, size=size, check_invariants=False)


@functools.cache
def obstacle() -> str | None:
    """Why decoding rows cannot be computed so with this torch; None where they can."""
    # torch's notices, once a process each, that sparse matrices are young and (in 2.11) not
    # checked: nobody here can act on them. They are named, and stay named: catch_warnings would put
    # back filters that other threads have changed meanwhile.
    for notice in _NOTICES:
        warnings.filterwarnings("ignore", notice)
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
    except (RuntimeError, Warning) as error:
        return f"this torch has no sampled products ({error})"
    return None
