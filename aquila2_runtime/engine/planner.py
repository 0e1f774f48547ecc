"""Planner: from scheduled chunks to the attention plan of a step. It runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from aquila2_runtime.engine.attention.plan import AttentionPlan, PrefillSegment, SharedPrefix
from aquila2_runtime.engine.crossing import brought
from aquila2_runtime.engine.sharing import MIN_SAVED_TOKENS, Group, shared_groups
from aquila2_runtime.engine.standing_rows import StandingRows

if TYPE_CHECKING:
    from aquila2_runtime.engine.scheduler import Scheduled


def is_decode(item: Scheduled) -> bool:
    """Whether a chunk's rows are planned as decoding rows: one token of an answer, and its drafts.

    A prompt's token is not, even if the chunk holds no other: it is to be the same number in every
    chunk, and prompts and decoding rows may be computed by different kernels.
    """
    return item.count == 1 and item.start >= item.request.num_prompt


class Planner:
    """Makes plans.

    Args:
        block_size: Tokens per block.
        device: Where the plans' tensors go.
        cascades: Whether the attention reads shared prefixes once (see ``AttentionPlan``).
        masks: Whether it reads the mask of decoding rows.
        least_saved: Tokens that reading a prefix once must save.
    """

    def __init__(
        self,
        block_size: int,
        device: torch.device,
        *,
        cascades: bool,
        masks: bool = True,
        least_saved: int = MIN_SAVED_TOKENS,
    ) -> None:
        self._size = block_size
        self._device = device
        self._cascades = cascades
        self._masks = masks
        self._least_saved = least_saved
        # A table that is grown in place must not be read by a step that is still running.
        stands = device.type == "cpu" and not masks
        self._standing = StandingRows(block_size) if stands else None
        self._number = 0

    def plan(self, order: Sequence[Scheduled]) -> AttentionPlan:
        """Plan a step.

        Args:
            order: The scheduled chunks, decoding ones first.
        """
        decodes = [item for item in order if is_decode(item)]
        row = num_decode = sum(item.rows for item in decodes)
        prefills: list[PrefillSegment] = []
        for item in order[len(decodes) :]:
            context = item.start + item.count
            table = self._tensor(item.request.blocks[: -(-context // self._size)])
            prefills.append(PrefillSegment(row, item.count, context, table))
            row += item.count
        slots = self._tensor(self._slots(order))
        before, self._number = self._number, self._number + 1
        if not decodes:
            if self._standing is not None:
                self._standing.forget()
            return AttentionPlan(slots, 0, None, None, tuple(prefills), number=self._number)
        groups = self._groups(decodes) if self._cascades else []
        blocks, lengths, follows = self._tables(decodes, num_decode, groups)
        return AttentionPlan(
            slots,
            num_decode,
            blocks,
            self._mask(lengths, blocks.shape[1] * self._size) if self._masks else None,
            tuple(prefills),
            lengths,
            self._shared(decodes, groups) if groups else (),
            self._number,
            before if follows else 0,
        )

    def cascading(self, decodes: Sequence[Scheduled]) -> tuple[set[int], int]:
        """Find the requests whose leading blocks a plan would read once.

        Args:
            decodes: Decoding chunks.

        Returns:
            Their numbers, and the tokens that would not have to be read again.
        """
        groups = self._groups(decodes) if self._cascades else []
        owners = [item.request.request_id for item in decodes for _ in range(item.rows)]
        members = {owners[row] for group in groups for row in group.rows}
        return members, sum(group.saved for group in groups) * self._size

    def _slots(self, order: Sequence[Scheduled]) -> list[int]:
        size = self._size
        slots: list[int] = []
        for item in order:
            blocks, start = item.request.blocks, item.start
            for position in range(start, start + item.count + len(item.drafts)):
                slots.append(blocks[position // size] * size + position % size)
        return slots

    def _groups(self, decodes: Sequence[Scheduled]) -> list[Group]:
        firsts = {item.request.blocks[0] for item in decodes if not item.drafts}
        if len(firsts) == len(decodes):
            return []  # nobody begins as another does
        # Only blocks before the one that the row's own token goes to: the table is never empty.
        tables = [
            table
            for item in decodes
            for table in [item.request.blocks[: item.start // self._size]] * item.rows
        ]
        if len(tables) < 2:
            return []
        return shared_groups(tables, self._size, self._least_saved)

    def _tables(
        self, decodes: Sequence[Scheduled], rows: int, groups: Sequence[Group]
    ) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """Every decoding row's blocks, and how many tokens it sees there, less what is shared.

        Returns:
            The last is whether they are the rows of the last plan, each with a token more, as far
            as that is looked at.
        """
        if self._standing is not None:
            if rows == len(decodes) and not groups:
                lists = [item.request.blocks for item in decodes]
                return self._standing.advance(lists, [item.start for item in decodes])
            self._standing.forget()
        size = self._size
        left_out = {row: group.length for group in groups for row in group.rows}
        tables: list[list[int]] = []
        lengths: list[int] = []
        for item in decodes:
            # A draft is a row of its own, which sees one token more than the row before it.
            for seen in range(item.start + 1, item.start + 1 + item.rows):
                skipped = left_out.get(len(tables), 0)
                tables.append(item.request.blocks[skipped : -(-seen // size)])
                lengths.append(seen - skipped * size)
        width = max(map(len, tables))
        padded = [table + [0] * (width - len(table)) for table in tables]
        counts = brought(lengths, self._device, torch.int32)
        return self._tensor(padded), counts, False

    def _mask(self, lengths: torch.Tensor, width: int) -> torch.Tensor:
        hidden = torch.arange(width, device=self._device)[None, :] >= lengths[:, None]
        mask = torch.zeros(hidden.shape, device=self._device)
        return mask.masked_fill_(hidden, float("-inf"))

    def _shared(
        self, decodes: Sequence[Scheduled], groups: Sequence[Group]
    ) -> tuple[SharedPrefix, ...]:
        owners = [item for item in decodes for _ in range(item.rows)]
        shared: list[SharedPrefix] = []
        for group in groups:
            blocks = owners[group.rows[0]].request.blocks[: group.length]
            in_place = blocks == list(range(blocks[0], blocks[0] + len(blocks)))
            first = blocks[0] if in_place else None
            shared.append(SharedPrefix(self._tensor(group.rows), self._tensor(blocks), first))
        return tuple(shared)

    def _tensor(self, numbers: Sequence[int] | Sequence[list[int]]) -> torch.Tensor:
        return brought(numbers, self._device)
