"""Runner: the tensors of one step, from scheduled chunks to sampled ids. It decides nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from aquila2_runtime.engine.base import IdLogprob
from aquila2_runtime.engine.crossing import brought
from aquila2_runtime.engine.planner import Planner, is_decode
from aquila2_runtime.engine.sampler import Sampled, Sampler, SampleRow

if TYPE_CHECKING:
    from aquila2_runtime.engine.attention.base import Attention
    from aquila2_runtime.engine.decoder import Decoder
    from aquila2_runtime.engine.request import Request
    from aquila2_runtime.engine.scheduler import Scheduled

# Logits of this many prompt positions at a time: at a vocabulary of 100,008 that is 100 MB of fp32.
_PROMPT_LOGPROB_ROWS = 256


# Not frozen: one is made for every row of every step, and a frozen one takes three times as long.
@dataclasses.dataclass(slots=True)
class Chosen:
    """What a step chose for one request: an id, or why there is none. It does not change.

    Attributes:
        request: The request.
        token_id: The next id; meaningless when ``failure`` is set.
        logprob: Its log-probability when asked for.
        failure: Why no id could be chosen.
        verifies: Whether it was chosen after a draft, which is thereby known to be right.
    """

    request: Request
    token_id: int
    logprob: IdLogprob | None = None
    failure: str | None = None
    verifies: bool = False


class Runner:
    """Runs steps on the device.

    Args:
        decoder: The model.
        attention: Its keys and values, and how they are read.
        sampler: Chooses ids.

    Attributes:
        planner: Makes the steps' plans.
        tile: Rows of a prompt that the attention computes together.
    """

    def __init__(self, decoder: Decoder, attention: Attention, sampler: Sampler) -> None:
        self._decoder = decoder
        self._attention = attention
        self._sampler = sampler
        self.tile = attention.tile
        self.planner = Planner(
            attention.cache.block_size,
            decoder.device,
            cascades=attention.cascades,
            masks=not attention.reads_lengths,
            least_saved=attention.least_saved,
        )

    @torch.inference_mode()
    def run(self, scheduled: Sequence[Scheduled]) -> list[Chosen]:
        """Compute the scheduled chunks and choose the next id of those that reach their end.

        The same chunks can be run again: keys and values land in the same places, and nothing
        about a request changes here but its (appended) prompt log-probabilities.
        """
        order = sorted(scheduled, key=lambda item: not is_decode(item))
        ids: list[int] = []
        positions: list[int] = []
        for item in order:
            start, count, drafts = item.start, item.count, item.drafts
            ids += item.request.token_ids[start : start + count]
            ids += drafts
            positions += range(start, start + count + len(drafts))
        device = self._decoder.device
        hidden = self._decoder.forward(
            brought(ids, device),
            brought(positions, device),
            self._attention,
            self.planner.plan(order),
            self._decoder.adapters.step([(item.request.spec.adapter, item.rows) for item in order]),
        )
        self._prompt_logprobs(order, hidden)
        return self._sample(order, hidden)

    def _sample(self, order: Sequence[Scheduled], hidden: torch.Tensor) -> list[Chosen]:
        wanted: list[int] = []
        states: list[SampleRow] = []
        items: list[Scheduled] = []
        row = 0
        for item in order:
            if item.samples:
                wanted += range(row + item.count - 1, row + item.rows)
                states += _states(self._row(item.request), item.drafts)
                items.append(item)
            row += item.rows
        if not items:
            return []
        if len(wanted) < len(hidden):
            hidden = hidden[brought(wanted, hidden.device)]
        logits = self._decoder.logits(hidden)
        sampled = self._sampler.sample(logits, states)
        chosen: list[Chosen] = []
        at = 0
        for item in items:
            chosen += _verified(item, sampled, at)
            at += 1 + len(item.drafts)
        return chosen

    def _row(self, request: Request) -> SampleRow:
        if request.sample_row is None:
            spec = request.spec
            request.sample_row = SampleRow.create(
                spec.params, spec.seed, spec.prompt_token_ids, spec.stop_ids, spec.constraint
            )
        return request.sample_row

    def _prompt_logprobs(self, order: Sequence[Scheduled], hidden: torch.Tensor) -> None:
        row = 0
        for item in order:
            request = item.request
            count = request.spec.params.prompt_logprobs
            if request.wants_prompt_logprobs and count is not None:
                # Row r predicts the id after it; the last prompt row predicts the answer.
                ahead = request.token_ids[item.start + 1 : item.start + item.count + 1]
                # A chunk that is run again replaces what it had appended.
                del request.prompt_logprobs[item.start :]
                for at in range(0, len(ahead), _PROMPT_LOGPROB_ROWS):
                    some = ahead[at : at + _PROMPT_LOGPROB_ROWS]
                    logits = self._decoder.logits(hidden[row + at : row + at + len(some)])
                    request.prompt_logprobs += self._sampler.prompt_logprobs(logits, some, count)
            row += item.rows


def _states(row: SampleRow, drafts: Sequence[int]) -> list[SampleRow]:
    """A request's sampling state now and after each of its drafts, should they be right."""
    states = [row]
    for draft in drafts:
        after = dataclasses.replace(states[-1], counts=dict(states[-1].counts))
        after.append(draft)
        states.append(after)
    return states


def _verified(item: Scheduled, sampled: Sampled, at: int) -> list[Chosen]:
    """The ids of one request, as far as each draft is what was chosen in its place.

    An id is drawn from the seed and its place in the answer alone, so "the drawn id equals the
    draft" is the whole test, greedy or sampled, and the answer is the one without drafts.
    """
    if not item.drafts:
        failure = sampled.failed.get(at)
        return [Chosen(item.request, sampled.token_ids[at], sampled.logprobs[at], failure)]
    chosen: list[Chosen] = []
    for ahead in range(1 + len(item.drafts)):
        token_id, failure = sampled.token_ids[at + ahead], sampled.failed.get(at + ahead)
        logprob = sampled.logprobs[at + ahead]
        chosen.append(Chosen(item.request, token_id, logprob, failure, verifies=ahead > 0))
        if failure is not None or [token_id] != list(item.drafts[ahead : ahead + 1]):
            break
    return chosen
