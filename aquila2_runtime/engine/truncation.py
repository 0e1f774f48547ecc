"""Truncation and drawing: temperature, top-k, top-p, min-p, one draw a row. It keeps no state.

Filters apply in the order of Hugging Face's ``generate``: temperature, top-k, top-p (over what
top-k left), min-p (relative to the likeliest). Sorting a whole vocabulary costs more than a small
model's forward pass, so only the 1,024 likeliest are sorted, with exact probabilities; rows whose
filters reach further are sorted in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from aquila2_runtime.engine.sample_row import SampleRow

PREFILTER: Final = 1_024


def draw(scores: torch.Tensor, rows: Sequence[SampleRow]) -> torch.Tensor:
    """Draw one id per row.

    Args:
        scores: Logits after penalties and bias, fp32; every row has a finite entry.
            ``[rows, vocab]``.
        rows: Their parameters; none is greedy.

    Returns:
        Ids. ``[rows]``.
    """
    device, width = scores.device, scores.shape[1]
    heat = torch.tensor([row.params.temperature for row in rows], device=device)
    # The likeliest becomes 0 first: differences stay finite at any temperature.
    scaled = (scores - scores.max(dim=-1, keepdim=True).values) / heat[:, None]
    noise = torch.tensor([row.noise for row in rows], device=device, dtype=torch.float64)
    chosen = torch.empty(len(rows), dtype=torch.int64, device=device)
    plain = [index for index, row in enumerate(rows) if not _truncates(row)]
    if plain:
        where = torch.tensor(plain, device=device)
        chosen[where] = _invert(scaled[where].double().softmax(dim=-1), noise[where])
    cut = [index for index, row in enumerate(rows) if _truncates(row)]
    if cut:
        where = torch.tensor(cut, device=device)
        some = [rows[index] for index in cut]
        narrow = min(PREFILTER, width)
        ids, complete = _candidates(scaled[where], noise[where], some, narrow)
        chosen[where] = ids
        wide = [index for index, is_complete in enumerate(complete) if not is_complete]
        if wide:
            again = where[torch.tensor(wide, device=device)]
            chosen[again] = _candidates(
                scaled[again], noise[again], [some[index] for index in wide], width
            )[0]
    return chosen


def _truncates(row: SampleRow) -> bool:
    params = row.params
    return params.top_k > 0 or params.top_p < 1.0 or params.min_p > 0.0


def _candidates(
    scaled: torch.Tensor, noise: torch.Tensor, rows: Sequence[SampleRow], count: int
) -> tuple[torch.Tensor, list[bool]]:
    """Draw from the ``count`` likeliest; say for which rows that was all their filters leave."""
    device, width = scaled.device, scaled.shape[1]
    top, ids = _sorted_top(scaled, count)
    # Exact probabilities, whatever lies below the candidates.
    total = scaled.double().logsumexp(dim=-1, keepdim=True)
    probabilities = (top.double() - total).exp()
    limits = torch.tensor(
        [row.params.top_k if 0 < row.params.top_k < width else width for row in rows],
        device=device,
    )
    places = torch.arange(count, device=device)[None, :]
    within = places < limits[:, None]
    # Without a top-k the whole vocabulary is the mass that top-p is a share of.
    kept = torch.where(within, probabilities, 0.0)
    mass = torch.where(limits >= width, 1.0, kept.sum(dim=-1))
    top_p = torch.tensor([row.params.top_p for row in rows], device=device, dtype=torch.float64)
    before = kept.cumsum(dim=-1) - kept
    # A token stays while those likelier than it have not reached top_p; so the first always stays.
    keep = within & (before < (top_p * mass)[:, None])
    min_p = torch.tensor([row.params.min_p for row in rows], device=device, dtype=torch.float64)
    keep &= probabilities >= min_p[:, None] * probabilities[:, :1]
    keep[:, 0] = True
    chosen = _invert(torch.where(keep, probabilities, 0.0), noise)
    # If even the last candidate stays, more might have stayed beyond it.
    complete = (~keep[:, -1]) | (limits <= count)
    return ids.gather(1, chosen[:, None])[:, 0], complete.tolist()


def _sorted_top(scaled: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest candidates, equal ones by id, so that order never depends on the kernel."""
    if count >= scaled.shape[1]:
        values, ids = scaled.sort(dim=-1, descending=True, stable=True)
        return values, ids
    values, ids = scaled.topk(count, dim=-1)
    by_id = ids.argsort(dim=-1)
    values, ids = values.gather(1, by_id), ids.gather(1, by_id)
    order = values.argsort(dim=-1, descending=True, stable=True)
    return values.gather(1, order), ids.gather(1, order)


def _invert(weights: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Inverse of the cumulative distribution at ``noise``; never a place of weight zero.

    Args:
        weights: Not negative, in float64, any positive sum. ``[rows, places]``.
        noise: In [0, 1). ``[rows]``.
    """
    reached = weights.cumsum(dim=-1)
    # The first place whose cumulative weight exceeds the target has weight itself.
    target = noise[:, None] * reached[:, -1:]
    place = torch.searchsorted(reached, target, right=True)[:, 0]
    # Rounding can put the target on the very end: then the last place that has weight.
    last = weights.shape[1] - 1 - (weights > 0).flip(-1).to(torch.uint8).argmax(dim=-1)
    return torch.minimum(place, last)
