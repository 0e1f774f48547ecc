"""Decoding rows on CPU over 16-bit keys and values. It knows no requests and no runs.

What a step costs is reading keys and values, so half as many bytes take half as long. torch's
sampled product (see ``gathering``) takes fp32 alone, but a bag of embeddings takes 16 bits and adds
up in fp32. For that the keys lie in columns, those of ``COLUMNS`` neighbouring places side by side:
one line a number of the head, a bag of the lines weighed by the query, and its sum is the scores of
all these places at once. Keys are fp16 there, for scores come out in the keys' type and bfloat16
would leave three digits of them.

A row's sums are added up in the order of its tokens, in lanes that do not depend on the other rows
or on where its blocks lie, so a row is the same number in any company.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch

from aquila2_runtime.engine.attention.cache import COLUMNS
from aquila2_runtime.engine.attention.gathering import goes_on, grouped_lines

if TYPE_CHECKING:
    from aquila2_runtime.engine.attention.cache import PagedKVCache

# With fewer places left behind its last token a row gets columns more, so that a listing can grow
# in place for some steps.
_ROOM: Final = 16
_HIDDEN: Final = float("-inf")


@dataclasses.dataclass(frozen=True, slots=True)
class ColumnListing:
    """What the decoding rows of a step see; the same for every layer.

    A bag is ``COLUMNS`` neighbouring places, seen by a row and query head; what the row does not
    see of them is hidden. Bags are in the order of rows, heads and tokens.

    Attributes:
        blocks: Every row's blocks. ``[rows, n]``.
        lengths: Tokens every row sees; int32. ``[rows]``.
        last: The place of each row's last token. ``[rows]``.
        at: Its entry, for every row and head. ``[rows * heads]``.
        near: So many tokens more go beside it in every row, without a look at any.
        widths: Entries of each row and head. ``[rows]``.
        lines: Lines of keys that make up the bags; int32. ``[bags * dim]``.
        line_starts: Where each bag's lines begin, and the end; int32. ``[bags + 1]``.
        line_rows: The row and head of each bag, counted together. ``[bags]``.
        starts: Where each row and head's entries begin, and the end; int32.
            ``[rows * heads + 1]``.
        places: Each entry's place among all heads' values, the row's first where hidden; int32.
            ``[bags * COLUMNS]``.
        hidden: Which entries are. ``[bags * COLUMNS]``.
        scores: Where every layer writes its scores. ``[bags * COLUMNS]``.
        groups: Views of these, a line per row and head; neighbours with equally many entries in
            one view. ``[lines, entries of each]``.
    """

    blocks: torch.Tensor
    lengths: torch.Tensor
    last: torch.Tensor
    at: torch.Tensor
    near: int
    widths: torch.Tensor
    lines: torch.Tensor
    line_starts: torch.Tensor
    line_rows: torch.Tensor
    starts: torch.Tensor
    places: torch.Tensor
    hidden: torch.Tensor
    scores: torch.Tensor
    groups: list[torch.Tensor]


class ColumnGathering:
    """Attends with single rows.

    Args:
        cache: Keys and values in bfloat16, and keys in columns.
    """

    def __init__(self, cache: PagedKVCache) -> None:
        self._kv_heads, num_blocks, self._size, self._dim = cache.keys[0].shape
        self._places = num_blocks * self._size
        # Blocks that share columns.
        self._each = COLUMNS // self._size
        self._heads = torch.empty(0, dtype=torch.int64)
        self._columns = cache.columns
        # Views, made once: a line per number of every head and of every COLUMNS places; and all
        # heads' values in a line.
        self._keys = [columns.view(-1, COLUMNS) for columns in cache.columns]
        self._values = [values.view(-1, self._dim) for values in cache.value_lines]

    def list_rows(self, heads: int, blocks: torch.Tensor, lengths: torch.Tensor) -> ColumnListing:
        """List what the decoding rows of a step see.

        Args:
            heads: Query heads.
            blocks: Every row's blocks. ``[rows, n]``.
            lengths: Tokens every row sees, at least one; int32. ``[rows]``.
        """
        if len(self._heads) != heads:
            # Query head h reads key/value head h // group, as in grouped-query attention.
            self._heads = torch.arange(heads) // (heads // self._kv_heads)
        own, bags, counts, ends = self._bags(blocks, lengths)
        places, seen = self._entries(blocks, lengths, own, bags)
        parts: list[tuple[torch.Tensor, ...]] = []
        row = 0
        for count, same in itertools.groupby(counts):
            some, width = slice(row, row + len(list(same))), count * COLUMNS
            first_places = (self._heads * self._places)[:, None]
            hidden = ~seen[some, None, :width]
            parts.append(
                (
                    self._lines(bags[some, None, :count]).view(-1),
                    (first_places + places[some, None, :width]).int().view(-1),
                    hidden.expand(-1, heads, -1).reshape(-1),
                )
            )
            row = some.stop
        lines, listed, hidden = (torch.cat(part) for part in zip(*parts, strict=True))
        widths = torch.tensor(counts) * COLUMNS
        starts = torch.zeros(len(counts) * heads + 1, dtype=torch.int32)
        torch.cumsum(widths.repeat_interleave(heads), 0, out=starts[1:])
        each = torch.tensor(counts).repeat_interleave(heads)
        scores = torch.zeros(len(listed))
        return ColumnListing(
            blocks=blocks,
            lengths=lengths,
            last=places.gather(1, ends[:, None])[:, 0],
            at=starts[:-1].long() + ends.repeat_interleave(heads),
            near=self._near(ends),
            widths=widths,
            lines=lines,
            line_starts=torch.arange(0, len(lines) + 1, self._dim, dtype=torch.int32),
            line_rows=torch.arange(len(each)).repeat_interleave(each),
            starts=starts,
            places=listed,
            hidden=hidden,
            scores=scores,
            groups=grouped_lines(scores, heads, widths.tolist()),
        )

    def _bags(
        self, blocks: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, list[int], torch.Tensor]:
        """Which columns every row needs, in the order of its tokens.

        Returns:
            The bag of each block, counted within its row ``[rows, n]``; which columns each bag is,
            the last ones repeated ``[rows, most bags]``; how many bags each row gets; and the entry
            of its last token ``[rows]``.
        """
        table, count = blocks.long(), blocks.shape[1]
        used = (lengths.long() + self._size - 1) // self._size
        unused = torch.arange(count) >= used[:, None]
        # A block goes on in the bag of the one before where both are neighbours in its columns.
        begins = torch.ones_like(unused)
        begins[:, 1:] = (table[:, 1:] != table[:, :-1] + 1) | (table[:, 1:] % self._each == 0)
        own = begins.masked_fill_(unused, False).cumsum(1) - 1
        at = (used - 1)[:, None]
        last, last_bag = table.gather(1, at), own[:, -1:]
        ends = (lengths.long() - 1) % self._size + (last[:, 0] % self._each) * self._size
        counts = last_bag[:, 0] + 1 + (COLUMNS - 1 - ends < _ROOM)
        listed: list[int] = counts.tolist()
        columns = torch.where(unused, last, table) // self._each
        bags = (last // self._each).repeat(1, max(listed)).scatter_(1, own, columns)
        return own, bags, listed, ends + last_bag[:, 0] * COLUMNS

    def _entries(
        self, blocks: torch.Tensor, lengths: torch.Tensor, own: torch.Tensor, bags: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Every entry's place within a head, the first token's where hidden; and which are seen."""
        rows, table, within = len(lengths), blocks.long(), torch.arange(self._size)
        # Entries of all tokens; those behind the end fall on the last one's, which is seen.
        entries = own[:, :, None] * COLUMNS + (table % self._each * self._size)[:, :, None] + within
        entries = entries.view(rows, -1)
        behind = torch.arange(entries.shape[1]) >= lengths[:, None]
        last = entries.gather(1, lengths.long()[:, None] - 1)
        seen = torch.zeros(rows, bags.shape[1] * COLUMNS, dtype=torch.bool)
        seen.scatter_(1, torch.where(behind, last, entries), torch.ones_like(behind))
        places = (bags[:, :, None] * COLUMNS + torch.arange(COLUMNS)).view(rows, -1)
        # Hidden entries read the row's own first token: another's might not be finite.
        return torch.where(seen, places, table[:, :1] * self._size), seen

    def _lines(self, bags: torch.Tensor) -> torch.Tensor:
        """The lines of some columns, all query heads'. ``[n, 1, m]`` to ``[n, heads, m, dim]``."""
        firsts = (bags * self._kv_heads + self._heads[:, None]) * self._dim
        return (firsts[..., None] + torch.arange(self._dim)).int()

    def next_token(
        self,
        listing: ColumnListing,
        blocks: torch.Tensor,
        lengths: torch.Tensor,
        slots: torch.Tensor,
        *,
        follows: bool = False,
    ) -> ColumnListing | None:
        """The listing of the step after, if its rows see what they saw and one token more.

        As ``Gathering.next_token``: the old listing is written over.
        """
        if not follows and not (
            torch.equal(listing.lengths + 1, lengths) and goes_on(listing.blocks, blocks)
        ):
            return None
        near = listing.near - 1
        if near < 0:
            ends = self._ends(listing, slots)
            if ends is None:
                return None
            near = self._near(ends)
        else:
            listing.at.add_(1)
        new = slots[:, None] + self._heads * self._places
        listing.places.scatter_(0, listing.at, new.int().view(-1))
        listing.hidden.index_fill_(0, listing.at, False)
        return dataclasses.replace(listing, blocks=blocks, lengths=lengths, last=slots, near=near)

    def _near(self, ends: torch.Tensor) -> int:
        """How many tokens more lie in the block of each row's last one."""
        return int((self._size - 1 - ends % self._size).min())

    def _ends(self, listing: ColumnListing, slots: torch.Tensor) -> torch.Tensor | None:
        """The entries that new tokens take within their rows, with columns begun where they do.

        Returns:
            None where a row has no room; nothing has changed then.
        """
        heads = len(self._heads)
        starts = listing.starts[:-1].view(-1, heads)
        before = listing.at.view(-1, heads)[:, 0] - starts[:, 0]
        within = slots % COLUMNS
        beside = (slots == listing.last + 1) & (within != 0)
        ends = torch.where(beside, before + 1, (before // COLUMNS + 1) * COLUMNS + within)
        if bool((ends >= listing.widths).any()):
            return None
        listing.at.copy_((starts + ends[:, None]).view(-1))
        if not bool(beside.all()):
            lines = self._lines((slots // COLUMNS)[:, None, None]).view(-1, self._dim)
            listing.lines.view(-1, self._dim).index_copy_(0, listing.at // COLUMNS, lines)
        return ends

    def attend(
        self, layer: int, query: torch.Tensor, listing: ColumnListing, *, sums: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend over what is listed.

        Args:
            layer: Index of the layer.
            query: fp32. ``[rows, heads, dim]``.
            listing: What the rows see.
            sums: Not given here.

        Returns:
            ``[rows, heads, dim]``, fp32, and None.
        """
        if sums:
            msg = "rows over columns share no prefix"
            raise RuntimeError(msg)
        dim, scores = self._dim, listing.scores
        lines = (query.reshape(-1, dim) * dim**-0.5).half()
        weights = lines.index_select(0, listing.line_rows).view(-1)
        # What F.embedding_bag calls once it has looked at its arguments.
        found = torch.embedding_bag(
            self._keys[layer], listing.lines, listing.line_starts, False, 0, False, weights, True
        )[0]
        scores.copy_(found.view(-1))
        # Instead of an addend: what lies there is another request's, and may not be finite.
        scores.masked_fill_(listing.hidden, _HIDDEN)
        for group in listing.groups:
            torch.softmax(group, -1, out=group)
        mixed = torch.embedding_bag(
            self._values[layer], listing.places, listing.starts,
            False, 0, False, scores.bfloat16(), True,
        )[0]  # fmt: skip
        return mixed.float().view(query.shape), None

    def seen(
        self, listing: ColumnListing, slots: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """What ``ScriptedStep`` takes of a listing: tensors, and the groups of scores."""
        return [
            listing.lines, listing.line_starts, listing.line_rows, listing.scores, listing.hidden,
            listing.places, listing.starts, slots // COLUMNS, slots % COLUMNS,
        ], listing.groups  # fmt: skip

    def stored(self) -> Sequence[Sequence[torch.Tensor]]:
        """What ``ScriptedStep`` takes of every layer: keys as they are read, values, columns."""
        return list(zip(self._keys, self._values, self._columns, strict=True))
