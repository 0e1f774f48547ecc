"""DeviceRows: what a decoding step needs to know of each request, kept on the device. No policy.

A request has a place here while it decodes. A step reads the places it is given, and leaves each
with its next id and position, so that the step after it needs nothing from the host but new blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from aquila2_runtime.engine.crossing import brought
from aquila2_runtime.engine.noise import first_state
from aquila2_runtime.engine.sample_row import SampleRow
from aquila2_runtime.engine.static_sampler import (
    StaticRows,
    is_filtered,
    settings_of,
    signed,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A request as it comes in.

    Attributes:
        place: Where.
        token_id: Its newest id, to be computed next.
        position: Of that id.
        row: How it is sampled.
        blocks: Its blocks.
    """

    place: int
    token_id: int
    position: int
    row: SampleRow
    blocks: Sequence[int]


class DeviceRows:
    """The places, one tensor per fact.

    Args:
        places: Requests that can decode together; one more place, the last, is for padding.
        width: Blocks of the longest request.
        n_ids: Ids that may be chosen.
        device: Where it lives.

    Attributes:
        padding: The place that rows without a request point at.
        ids: Newest id. ``[places + 1]``.
        positions: Its position.
        tables: Blocks, padded with block 0. int32, ``[places + 1, width]``.
    """

    def __init__(self, *, places: int, width: int, n_ids: int, device: torch.device) -> None:
        self.padding = places
        self.device = device
        self._n_ids = n_ids
        count = places + 1

        def make(*shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
            return torch.zeros(count, *shape, dtype=dtype, device=device)

        self.ids = make()
        self.positions = make()
        self.tables = make(width, dtype=torch.int32)
        self._steps = make()
        self._states = make()
        # Harmless for the padding place: temperature 1, no filter.
        self._settings = torch.tensor(
            [[1.0, n_ids, 1.0, 0.0]] * count, dtype=torch.float64, device=device
        )
        self._greedy = torch.ones(count, dtype=torch.bool, device=device)
        self._filtered = make(dtype=torch.bool)

    def enter(self, entries: Sequence[Entry]) -> None:
        """Bring requests in, or bring what is known of them up to date."""
        width = self._n_ids
        where = self._put([entry.place for entry in entries])
        whole = self._put(
            [
                [
                    entry.token_id,
                    entry.position,
                    entry.row.step,
                    signed(first_state(entry.row.seed)),
                    int(entry.row.params.greedy),
                    int(is_filtered(entry.row, width)),
                ]
                for entry in entries
            ]
        )
        ids, positions, steps, states, greedy, filtered = whole.unbind(dim=1)
        self.ids[where] = ids
        self.positions[where] = positions
        self._steps[where] = steps
        self._states[where] = states
        self._greedy[where] = greedy.bool()
        self._filtered[where] = filtered.bool()
        settings = [settings_of(entry.row, width) for entry in entries]
        self._settings[where] = self._put(settings, torch.float64)
        cells = [
            (entry.place, column, block)
            for entry in entries
            for column, block in enumerate(entry.blocks)
        ]
        self.add_blocks(cells)

    def add_blocks(self, cells: Sequence[tuple[int, int, int]]) -> None:
        """Write block numbers, each with its place and its column in the table."""
        if cells:
            places, columns, blocks = self._put(cells).unbind(dim=1)
            self.tables[places, columns] = blocks.int()

    def sampling(self, places: torch.Tensor) -> StaticRows:
        """What the rows at some places are sampled by."""
        return StaticRows(
            self._states[places],
            self._steps[places],
            self._settings[places],
            self._greedy[places],
            self._filtered[places],
        )

    def advance(self, places: torch.Tensor, chosen: torch.Tensor) -> None:
        """Make the chosen ids the newest. The padding place stays at its first token."""
        padding = places == self.padding
        # An id that is to be redone is computed as some id until the host has noticed.
        ids = chosen.clamp(min=0).masked_fill(padding, 0)
        self.ids.index_copy_(0, places, ids)
        for counts in (self.positions, self._steps):
            counts.index_copy_(0, places, (counts[places] + 1).masked_fill(padding, 0))

    def _put(self, values: Sequence[object], dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return brought(values, self.device, dtype)
