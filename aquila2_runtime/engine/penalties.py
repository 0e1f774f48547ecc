"""Penalties: a row's logits as its parameters change them. It chooses nothing.

Repetition: Keskar et al., "CTRL", 2019, over prompt and answer. Presence and frequency: OpenAI's
formula ``logit - presence * (count > 0) - frequency * count``, over the answer alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import torch

from aquila2_runtime.engine.crossing import brought
from aquila2_runtime.engine.sample_row import SampleRow

_NEVER: Final = float("-inf")
_LARGEST: Final = torch.finfo(torch.float32).max


def edit(scores: torch.Tensor, rows: Sequence[SampleRow]) -> None:
    """Apply penalties, ``logit_bias`` and ``min_tokens``, in this order and in place.

    Ids outside the scores' columns are passed over: they can never be chosen anyway.

    Args:
        scores: Logits in fp32. ``[rows, ids]``, contiguous.
        rows: Their parameters and histories.
    """
    for index, row in enumerate(rows):
        if row.edits_logits:
            _edit(scores[index], row)


def _edit(scores: torch.Tensor, row: SampleRow) -> None:
    params, width, device = row.params, scores.shape[0], scores.device
    if params.repetition_penalty != 1.0:
        seen = _seen(row, width, device)
        old, penalty = scores[seen].double(), params.repetition_penalty
        new = torch.where(old > 0, old / penalty, old * penalty)
        # A tiny penalty would make infinities, whose differences are not numbers.
        scores[seen] = torch.where(old.isneginf(), old, new.clamp(-_LARGEST, _LARGEST)).float()
    if row.counts and (params.presence_penalty or params.frequency_penalty):
        counted = {key: times for key, times in row.counts.items() if key < width}
        times = brought(list(counted.values()), device, scores.dtype)
        less = params.presence_penalty + params.frequency_penalty * times
        scores[_ids(counted, width, device)] -= less
    if params.logit_bias:
        biases = {key: bias for key, bias in params.logit_bias.items() if key < width}
        more = brought(list(biases.values()), device, scores.dtype)
        scores[_ids(biases, width, device)] += more
    if row.step < params.min_tokens:
        scores[_ids(row.stop_ids, width, device)] = _NEVER


def _seen(row: SampleRow, width: int, device: torch.device) -> torch.Tensor:
    """Different ids of prompt and answer. A long prompt's are brought to the device only once."""
    if row.prompt_index is None:
        row.prompt_index = _ids(row.prompt_ids, width, device)
    new = _ids((key for key in row.counts if key not in row.prompt_ids), width, device)
    return torch.cat((row.prompt_index, new))


def _ids(ids: Iterable[int], width: int, device: torch.device) -> torch.Tensor:
    return brought([key for key in ids if key < width], device, torch.int64)
