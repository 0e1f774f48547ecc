"""Readback: chosen ids on their way from the device to the host, while later steps run. No policy.

On CUDA they are copied on a stream of their own into pinned memory, so that fetching one step's ids
never waits for the step launched after it.
"""

from __future__ import annotations

from typing import Final

import torch

# Steps whose ids may be under way at once. The runner fetches a step before it launches the next
# but one, and requests that join add a step of their own.
_RING: Final = 8


class Fetch:
    """One step's ids, under way.

    Args:
        ids: Where they arrive, on the host. ``[rows]``.
        arrived: Recorded behind the copy; None where nothing has to be waited for.
    """

    def __init__(self, ids: torch.Tensor, arrived: torch.cuda.Event | None) -> None:
        self._ids = ids
        self._arrived = arrived
        self._list: list[int] | None = None

    def ids(self) -> list[int]:
        """Wait for the ids and return them."""
        if self._list is None:
            if self._arrived is not None:
                self._arrived.synchronize()
            self._list = self._ids.tolist()
        return self._list


class Readback:
    """Starts the copies.

    Args:
        rows: Most ids of a step.
        device: Where they come from.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        self._device = device
        self._next = 0
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            shape = (_RING, rows)
            # The step's own buffer is written again by the next step, before its copy is over.
            self._staged = torch.zeros(shape, dtype=torch.int64, device=device)
            self._pinned = torch.zeros(shape, dtype=torch.int64).pin_memory()
            self._fetches: list[Fetch | None] = [None] * _RING

    def start(self, found: torch.Tensor) -> Fetch:
        """Fetch ids behind everything launched so far.

        Args:
            found: Whole numbers; may be overwritten by what is launched later. ``[rows]``.
        """
        if self._device.type != "cuda":
            return Fetch(found.clone(), None)
        at, count = self._next, found.shape[0]
        self._next = (at + 1) % _RING
        earlier = self._fetches[at]
        if earlier is not None:
            earlier.ids()  # its place in the ring is needed
        staged, pinned = self._staged[at, :count], self._pinned[at, :count]
        staged.copy_(found)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            pinned.copy_(staged, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record(self._stream)
        fetch = Fetch(pinned, arrived)
        self._fetches[at] = fetch
        return fetch
