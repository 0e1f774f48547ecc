"""Penalties: rows' logits as their parameters change them. It chooses nothing.

Repetition: Keskar et al., "CTRL", 2019, over prompt and answer. Presence and frequency: OpenAI's
formula ``logit - presence * (count > 0) - frequency * count``, over the answer alone.

All rows of a step are changed by the same few operations: one by one they would cost a GPU more
time to launch than a small model's step takes.
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
    changed = [(at, row) for at, row in enumerate(rows) if row.edits_logits]
    if not changed:
        return
    flat, width = scores.view(-1), scores.shape[1]
    _discourage(flat, width, [pair for pair in changed if pair[1].params.repetition_penalty != 1.0])
    _lower(flat, width, changed)
    biases = [
        (at * width + key, bias)
        for at, row in changed
        for key, bias in (row.params.logit_bias or {}).items()
        if key < width
    ]
    if biases:
        places, more = zip(*biases, strict=True)
        flat[brought(places, flat.device)] += brought(more, flat.device, flat.dtype)
    barred = [
        at * width + key
        for at, row in changed
        if row.step < row.params.min_tokens
        for key in row.stop_ids
        if key < width
    ]
    if barred:
        flat[brought(barred, flat.device)] = _NEVER


def _discourage(flat: torch.Tensor, width: int, rows: Sequence[tuple[int, SampleRow]]) -> None:
    """The repetition penalty, over the different ids of prompt and answer."""
    if not rows:
        return
    device = flat.device
    for _, row in rows:
        if row.prompt_index is None:
            # A long prompt's are brought to the device only once.
            row.prompt_index = brought(_within(row.prompt_ids, width), device, torch.int64)
    prompts = [row.prompt_index for _, row in rows if row.prompt_index is not None]
    answers = [
        _within((key for key in row.counts if key not in row.prompt_ids), width) for _, row in rows
    ]
    new = brought([key for keys in answers for key in keys], device, torch.int64)
    counts = [*(one.shape[0] for one in prompts), *map(len, answers)]
    each = brought(counts, device)

    def spread(values: Sequence[float], dtype: torch.dtype) -> torch.Tensor:
        """A value of each row beside every id of its prompt and, after all those, its answer."""
        twice = brought([*values, *values], device, dtype)
        return twice.repeat_interleave(each, output_size=sum(counts))

    seen = torch.cat((*prompts, new)) + spread([at * width for at, _ in rows], torch.int64)
    penalty = spread([row.params.repetition_penalty for _, row in rows], torch.float64)
    old = flat[seen].double()
    changed = torch.where(old > 0, old / penalty, old * penalty)
    # A tiny penalty would make infinities, whose differences are not numbers.
    flat[seen] = torch.where(old.isneginf(), old, changed.clamp(-_LARGEST, _LARGEST)).float()


def _lower(flat: torch.Tensor, width: int, rows: Sequence[tuple[int, SampleRow]]) -> None:
    """The presence and the frequency penalty, over the ids of the answer."""
    places, times, sizes = list[int](), list[int](), list[int]()
    lowered = [
        (at * width, row.counts, row.params)
        for at, row in rows
        if row.counts and (row.params.presence_penalty or row.params.frequency_penalty)
    ]
    for first, counts, _ in lowered:
        before = len(places)
        places += [first + key for key in counts if key < width]
        times += [count for key, count in counts.items() if key < width]
        sizes.append(len(places) - before)
    if places:
        device = flat.device
        each = [[p.presence_penalty, p.frequency_penalty] for _, _, p in lowered]
        both = brought(each, device, flat.dtype).repeat_interleave(
            brought(sizes, device), dim=0, output_size=len(places)
        )
        less = both[:, 0] + both[:, 1] * brought(times, device, flat.dtype)
        flat[brought(places, device)] -= less


def _within(ids: Iterable[int], width: int) -> list[int]:
    return [key for key in ids if key < width]
