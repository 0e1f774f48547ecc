"""AheadRunner: decodes by static steps, one step ahead of what the host has read. No policy.

While the host reads the ids of one step, delivers them and schedules, the device already computes
the next, from ids that never left it. That next step is a guess about the schedule: that the same
requests go on. Where the guess is right its ids are there when they are asked for; a request that
ended meanwhile has cost one row of it, and nothing else, because

* a row depends on its own request alone, so its id is the same whoever shares the step;
* what a superfluous row stores lies behind the last token of its request, in a block that was its
  own when the step was launched, and everything launched later is computed later.

Requests that a static step cannot serve (penalties, biases, masks, log-probabilities, drafts,
adapters), and prompts, run as they do in ``Runner``, in the same step. So do requests that share
so long a prefix that reading it once saves more time than launching a step piece by piece costs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aquila2_runtime.engine.device_rows import DeviceRows, Entry
from aquila2_runtime.engine.readback import Fetch, Readback
from aquila2_runtime.engine.request import Request, Status
from aquila2_runtime.engine.runner import Chosen, Runner
from aquila2_runtime.engine.static_sampler import REDO, serves
from aquila2_runtime.engine.static_step import StaticStep

if TYPE_CHECKING:
    from aquila2_runtime.engine.attention.base import Attention
    from aquila2_runtime.engine.decoder import Decoder
    from aquila2_runtime.engine.sampler import Sampler
    from aquila2_runtime.engine.scheduler import Scheduled


# Memory that need not be read again for a plain step to pay: what a large GPU reads in the four
# milliseconds or so that its launches take.
WORTH_A_PLAIN_STEP: Final = 12 * 2**30


@dataclasses.dataclass(slots=True)
class _Guest:
    """A request with a place on the device.

    Attributes:
        request: It.
        place: Where.
        blocks: Its list of blocks. The very list: a request admitted anew has another one.
        known: How many of these the device has been told.
        position: Of the token that the device computes next.
        under_way: Of the token whose successor is being fetched; None when nothing is.
        fetch: That step.
        row: The request's row in it.
    """

    request: Request
    place: int
    blocks: list[int]
    known: int
    position: int
    under_way: int | None = None
    fetch: Fetch | None = None
    row: int = 0


class AheadRunner(Runner):
    """Runs steps on the device, decoding ahead.

    Args:
        decoder: The model.
        attention: Its keys and values.
        sampler: Chooses ids where a static step does not.
        max_num_seqs: Most requests at once.
        max_model_len: Tokens of the longest request.
        n_ids: Ids that may be chosen.
        capture: Whether to record the steps as CUDA graphs.
        worth: Bytes that reading shared prefixes once must save for a plain step.
    """

    def __init__(
        self,
        decoder: Decoder,
        attention: Attention,
        sampler: Sampler,
        *,
        max_num_seqs: int,
        max_model_len: int,
        n_ids: int,
        capture: bool,
        worth: int = WORTH_A_PLAIN_STEP,
    ) -> None:
        super().__init__(decoder, attention, sampler)
        self._n_ids = n_ids
        self._size = attention.cache.block_size
        self._worth = worth / attention.cache.token_bytes
        self._rows = DeviceRows(
            places=max_num_seqs,
            width=-(-max_model_len // self._size),
            n_ids=n_ids,
            device=decoder.device,
        )
        self._step = StaticStep(decoder, attention, self._rows, n_ids, capture=capture)
        self._readback = Readback(max_num_seqs, decoder.device)
        self._guests: dict[int, _Guest] = {}
        self._places = list(range(max_num_seqs))

    def run(self, scheduled: Sequence[Scheduled]) -> list[Chosen]:
        """Compute the scheduled chunks and choose the next ids (see ``Runner.run``)."""
        for guest in list(self._guests.values()):
            if guest.request.status is not Status.RUNNING:
                self._leave(guest)
        static, others = self._divide(scheduled)
        for item in others:
            # What is under way for it, if anything, is not what is asked for now.
            self._leave(self._guests.get(item.request.request_id))
        try:
            self._launch([item for item in static if not self._is_under_way(item)])
            waited = [self._guests[item.request.request_id] for item in static]
            fetches = [(guest.request, guest.fetch, guest.row) for guest in waited]
            self._launch_ahead(static)
            chosen = super().run(others) if others else []
            redo: list[Scheduled] = []
            for item, (request, fetch, row) in zip(static, fetches, strict=True):
                token_id = REDO if fetch is None else fetch.ids()[row]
                if token_id == REDO:
                    self._leave(self._guests.get(request.request_id))
                    redo.append(item)
                else:
                    chosen.append(Chosen(request, token_id))
            return chosen + (super().run(redo) if redo else [])
        except BaseException:
            # Whatever is under way: the chunks are run again, one by one, from what the host knows.
            for guest in list(self._guests.values()):
                self._leave(guest)
            raise

    def _divide(self, scheduled: Sequence[Scheduled]) -> tuple[list[Scheduled], list[Scheduled]]:
        """Chunks for the static step, and those to run plainly."""
        served = [self._serves(item) for item in scheduled]
        static = [item for item, serves_it in zip(scheduled, served, strict=True) if serves_it]
        sharing, saved = self.planner.cascading(static)
        if saved < self._worth:
            sharing = set()
        others = [item for item, serves_it in zip(scheduled, served, strict=True) if not serves_it]
        others += [item for item in static if item.request.request_id in sharing]
        return [item for item in static if item.request.request_id not in sharing], others

    def _serves(self, item: Scheduled) -> bool:
        """Whether a chunk is one token, the newest, of a request that can be sampled statically."""
        request = item.request
        if item.rows != 1 or not item.samples or request.wants_prompt_logprobs:
            return False
        if request.spec.adapter is not None:
            return False
        return serves(self._row(request), self._n_ids)

    def _is_under_way(self, item: Scheduled) -> bool:
        guest = self._guests.get(item.request.request_id)
        return (
            guest is not None
            and guest.under_way == item.start
            and guest.blocks is item.request.blocks
        )

    def _launch(self, items: Sequence[Scheduled]) -> None:
        """Launch a step over some requests' newest tokens."""
        if not items:
            return
        entering: list[Entry] = []
        guests: list[_Guest] = []
        for item in items:
            request = item.request
            guest = self._guests.get(request.request_id)
            if guest is None or guest.position != item.start or guest.blocks is not request.blocks:
                self._leave(guest)
                place = self._places.pop()
                guest = _Guest(request, place, request.blocks, len(request.blocks), item.start)
                self._guests[request.request_id] = guest
                newest = request.token_ids[item.start]
                row = self._row(request)
                entering.append(Entry(place, newest, item.start, row, tuple(request.blocks)))
            guests.append(guest)
        if entering:
            self._rows.enter(entering)
        self._start(guests)

    def _launch_ahead(self, items: Sequence[Scheduled]) -> None:
        """Launch the step after this one, for the requests that this one does not surely end."""
        going_on: list[_Guest] = []
        for item in items:
            request = item.request
            if request.num_generated + 1 >= request.spec.max_tokens:
                continue
            guest = self._guests[request.request_id]
            if guest.position >= len(guest.blocks) * self._size:
                # No room yet for one of them. Without it the next step would be two.
                return
            going_on.append(guest)
        if going_on:
            self._start(going_on)

    def _start(self, guests: Sequence[_Guest]) -> None:
        """Launch one step; the device knows everything but new blocks."""
        cells: list[tuple[int, int, int]] = []
        for guest in guests:
            new = enumerate(guest.blocks[guest.known :], guest.known)
            cells += [(guest.place, column, block) for column, block in new]
            guest.known = len(guest.blocks)
        self._rows.add_blocks(cells)
        drawn = any(not guest.request.spec.params.greedy for guest in guests)
        found = self._step.run([guest.place for guest in guests], drawn=drawn)
        fetch = self._readback.start(found)
        for row, guest in enumerate(guests):
            guest.under_way, guest.fetch, guest.row = guest.position, fetch, row
            guest.position += 1

    def _leave(self, guest: _Guest | None) -> None:
        """Free a request's place. Its row in a step under way is not looked at again."""
        if guest is not None:
            del self._guests[guest.request.request_id]
            self._places.append(guest.place)
