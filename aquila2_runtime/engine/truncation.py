"""Truncation and drawing: temperature, top-k, top-p, min-p, one draw a row. It keeps no state.

Filters apply in the order of Hugging Face's ``generate``: temperature, top-k, top-p (over what
top-k left), min-p (relative to the likeliest). Equally likely ids are ordered by id, so a filter
may keep some of them and drop the rest.

Sorting a whole vocabulary costs more than a small model's forward pass, so only the 1,024 likeliest
are sorted, against the weight of the whole row; rows whose filters reach further, or whose border
runs through equal logits that may lie outside, are sorted in full.

Weights are whole numbers: ``exp(score - likeliest)`` times a power of two, rounded down. Their sums
are exact in any order, so no kernel's way of adding and no other row can change a result. What is
lost is below 1e-13 of the likeliest token's weight for vocabularies up to 262,143.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from aquila2_runtime.engine.sample_row import SampleRow

PREFILTER: Final = 1_024
_SUM_BITS: Final = 62


def draw(scores: torch.Tensor, rows: Sequence[SampleRow]) -> torch.Tensor:
    """Draw one id per row.

    Args:
        scores: Logits after penalties and bias, fp32; no NaN or +inf, and every row has a finite
            entry. ``[rows, ids]``.
        rows: Their parameters; none is greedy.

    Returns:
        Ids. ``[rows]``.
    """
    settings = _settings(rows, scores)
    heat, noise = settings[:, 0], settings[:, 1]
    weights = whole_weights(scores, heat)
    kinds = [reach(row, scores.shape[1]) for row in rows]
    chosen = torch.empty(len(rows), dtype=torch.int64, device=scores.device)
    plain, near, far = ([i for i, kind in enumerate(kinds) if kind == k] for k in range(3))
    if plain:
        where = torch.tensor(plain, device=scores.device)
        chosen[where] = invert(*_rows(plain, weights, noise))
    if near:
        where = torch.tensor(near, device=scores.device)
        chosen[where], complete = truncated(PREFILTER, *_rows(near, scores, weights, settings))
        unsure = (~complete).tolist()
        far += [index for index, is_unsure in zip(near, unsure, strict=True) if is_unsure]
    if far:
        where = torch.tensor(far, device=scores.device)
        chosen[where], _ = truncated(
            scores.shape[1], scores[where], weights[where], settings[where]
        )
    return chosen


def whole_weights(scores: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
    """Weights of every id as whole numbers, whose sums are exact.

    Args:
        scores: fp32; every row has a finite entry, and none is NaN or +inf. ``[rows, ids]``.
        heat: Temperatures, float64. ``[rows]``.
    """
    likeliest = scores.amax(dim=-1, keepdim=True).double()
    # The likeliest becomes 0 first: differences stay finite at any temperature.
    weights = (scores.double() - likeliest).div_(heat[:, None]).exp_()
    bits = _SUM_BITS - scores.shape[1].bit_length()
    return weights.mul_(2.0**bits).long()


def sorted_top(scores: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest, most likely first, equal ones by id.

    Where more are equal to the last one than fit, any of those may be listed: which, is up to the
    kernel. Everything above the last value is exact.

    Args:
        scores: ``[rows, ids]``.
        count: How many; at most the number of columns.

    Returns:
        Values and ids. ``[rows, count]`` each.
    """
    if count >= scores.shape[1]:
        values, ids = scores.sort(dim=-1, descending=True, stable=True)
        return values, ids
    values, ids = scores.topk(count, dim=-1)
    ids, by_id = ids.sort(dim=-1)
    values, order = values.gather(1, by_id).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(1, order)


def _rows(where: Sequence[int], *tensors: torch.Tensor) -> list[torch.Tensor]:
    """Some rows, in order; no copies where that is all of them."""
    if len(where) == len(tensors[0]):
        return list(tensors)
    index = torch.tensor(where, device=tensors[0].device)
    return [tensor[index] for tensor in tensors]


def _settings(rows: Sequence[SampleRow], scores: torch.Tensor) -> torch.Tensor:
    """Temperature, noise, top-k, top-p, min-p. ``[rows, 5]`` in float64, in one transfer."""
    width = scores.shape[1]
    listed = [
        (
            row.params.temperature,
            row.noise,
            limit_of(row, width),
            row.params.top_p,
            row.params.min_p,
        )
        for row in rows
    ]
    return torch.tensor(listed, device=scores.device, dtype=torch.float64)


def limit_of(row: SampleRow, width: int) -> int:
    """How many of the likeliest ids top-k leaves."""
    return min(row.params.top_k, width) if row.params.top_k > 0 else width


def reach(row: SampleRow, width: int) -> int:
    """Tell how far a row's filters reach.

    Returns:
        0: there is none; 1: the likeliest ids may be enough; 2: a full sort is needed.
    """
    limit = limit_of(row, width)
    if limit == width and row.params.top_p == 1.0 and row.params.min_p == 0.0:
        return 0
    return 2 if width <= PREFILTER or PREFILTER < limit < width else 1


def truncated(
    count: int, scores: torch.Tensor, weights: torch.Tensor, settings: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw from the ``count`` likeliest; say for which rows no other id could have been kept."""
    width = scores.shape[1]
    values, ids = sorted_top(scores, count)
    _, noise, limits, top_p, min_p = settings.unbind(dim=1)
    within = torch.arange(count, device=scores.device) < limits[:, None]
    kept = weights.gather(1, ids) * within
    # Without a top-k the whole vocabulary is the mass that top-p is a share of.
    mass = torch.where(limits >= width, weights.sum(dim=-1), kept.sum(dim=-1))
    before = kept.cumsum(dim=-1) - kept
    # A token stays while those likelier than it have not reached top_p; so the first always stays.
    keep = (before < (top_p * mass)[:, None]) | (top_p == 1.0)[:, None]
    keep &= kept >= min_p[:, None] * kept[:, :1]
    kept = kept * keep
    chosen = ids.gather(1, invert(kept, noise)[:, None])[:, 0]
    # Of ids equal to the last candidate some may be missing, so none of these may be kept.
    lowest = values.masked_fill(kept == 0, float("inf")).amin(dim=-1)
    return chosen, (lowest > values[:, -1]) | (count >= width)


def invert(weights: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Inverse of the cumulative distribution at ``noise``; never a place of weight zero.

    Args:
        weights: Whole numbers, not negative, of positive sum. ``[rows, places]``.
        noise: In [0, 1), float64. ``[rows]``.
    """
    reached = weights.cumsum(dim=-1)
    total = reached[:, -1]
    # Rounding may reach the total itself, behind which there is no place.
    target = torch.minimum((noise * total).long(), total - 1)
    # The first place whose cumulative weight exceeds the target has weight itself.
    return torch.searchsorted(reached, target[:, None], right=True)[:, 0]
