"""Runner: the tensors of one step, from scheduled chunks to sampled ids. It decides nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from aquila2_runtime.engine.attention.plan import AttentionPlan, PrefillSegment
from aquila2_runtime.engine.base import IdLogprob
from aquila2_runtime.engine.sampler import Sampler, SampleRow

if TYPE_CHECKING:
    from aquila2_runtime.engine.attention.base import Attention
    from aquila2_runtime.engine.decoder import Decoder
    from aquila2_runtime.engine.request import Request
    from aquila2_runtime.engine.scheduler import Scheduled

# Logits of this many prompt positions at a time: at a vocabulary of 100,008 that is 100 MB of fp32.
_PROMPT_LOGPROB_ROWS = 256


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen:
    """What a step chose for one request: an id, or why there is none.

    Attributes:
        request: The request.
        token_id: The next id; meaningless when ``failure`` is set.
        logprob: Its log-probability when asked for.
        failure: Why no id could be chosen.
    """

    request: Request
    token_id: int
    logprob: IdLogprob | None = None
    failure: str | None = None


class Runner:
    """Runs steps on the device.

    Args:
        decoder: The model.
        attention: Its keys and values, and how they are read.
        sampler: Chooses ids.
    """

    def __init__(self, decoder: Decoder, attention: Attention, sampler: Sampler) -> None:
        self._decoder = decoder
        self._attention = attention
        self._sampler = sampler

    @torch.inference_mode()
    def run(self, scheduled: Sequence[Scheduled]) -> list[Chosen]:
        """Compute the scheduled chunks and choose the next id of those that reach their end.

        The same chunks can be run again: keys and values land in the same places, and nothing
        about a request changes here but its (appended) prompt log-probabilities.
        """
        order = sorted(scheduled, key=lambda item: not _is_decode(item))
        ids: list[int] = []
        positions: list[int] = []
        for item in order:
            ids += item.request.token_ids[item.start : item.start + item.count]
            positions += range(item.start, item.start + item.count)
        device = self._decoder.device
        plan = self._plan(order, positions)
        hidden = self._decoder.forward(
            torch.tensor(ids, device=device),
            torch.tensor(positions, device=device),
            self._attention,
            plan,
        )
        self._prompt_logprobs(order, hidden)
        return self._sample(order, hidden)

    def _plan(self, order: Sequence[Scheduled], positions: list[int]) -> AttentionPlan:
        size, device = self._attention.cache.block_size, self._decoder.device
        slots: list[int] = []
        at = 0
        for item in order:
            blocks = item.request.blocks
            slots += [
                blocks[position // size] * size + position % size
                for position in positions[at : at + item.count]
            ]
            at += item.count
        decodes = [item for item in order if _is_decode(item)]
        decode_blocks = decode_mask = None
        if decodes:
            decode_blocks, decode_mask = self._decode_tables(decodes)
        prefills: list[PrefillSegment] = []
        row = len(decodes)
        for item in order[len(decodes) :]:
            context = item.start + item.count
            used = item.request.blocks[: -(-context // size)]
            table = torch.tensor(used, device=device)
            prefills.append(PrefillSegment(row, item.count, context, table))
            row += item.count
        return AttentionPlan(
            torch.tensor(slots, device=device),
            len(decodes),
            decode_blocks,
            decode_mask,
            tuple(prefills),
        )

    def _decode_tables(self, decodes: Sequence[Scheduled]) -> tuple[torch.Tensor, torch.Tensor]:
        size, device = self._attention.cache.block_size, self._decoder.device
        contexts = [item.start + 1 for item in decodes]
        width = -(-max(contexts) // size)
        tables = [
            (item.request.blocks[:width] + [0] * width)[:width] for item in decodes
        ]  # padded with block 0
        seen = torch.tensor(contexts, device=device)[:, None]
        hidden = torch.arange(width * size, device=device)[None, :] >= seen
        mask = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, float("-inf"))
        return torch.tensor(tables, device=device), mask

    def _sample(self, order: Sequence[Scheduled], hidden: torch.Tensor) -> list[Chosen]:
        last_rows: list[int] = []
        requests: list[Request] = []
        row = 0
        for item in order:
            row += item.count
            if item.samples:
                last_rows.append(row - 1)
                requests.append(item.request)
        if not requests:
            return []
        logits = self._decoder.logits(hidden[torch.tensor(last_rows, device=hidden.device)])
        sampled = self._sampler.sample(logits, [self._row(request) for request in requests])
        return [
            Chosen(request, sampled.token_ids[i], sampled.logprobs[i], sampled.failed.get(i))
            for i, request in enumerate(requests)
        ]

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
            row += item.count


def _is_decode(item: Scheduled) -> bool:
    return item.count == 1
