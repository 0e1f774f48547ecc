"""Truncation and drawing: temperature, top-k, top-p, min-p, one draw a row. It keeps no state.

Filters apply in the order of Hugging Face's ``generate``: temperature, top-k, top-p (over what
top-k left), min-p (relative to the likeliest). Equally likely ids are ordered by id, so a filter
may keep some of them and drop the rest.

Sorting a whole vocabulary costs more than a small model's forward pass, so a few of the likeliest
are sorted: 256 at first, then 1,024, and all only where the filters reach further or their border
runs through equal logits that may lie outside.

Weights are whole numbers: ``exp(score - likeliest)`` times a power of two, rounded down. Their sums
are exact in any order, so no kernel's way of adding and no other row can change a result. What is
lost is below 1e-13 of the likeliest token's weight for vocabularies up to 262,143.

Top-p is a share of the whole row's weight, which takes longer to add up exactly than all the rest.
So it is first estimated in fp32, to better than one part in 100,000; where every value within that
keeps the same ids they are the right ones, and only the other rows are added up exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from aquila2_runtime.engine.sample_row import SampleRow

PREFILTER: Final = 1_024
_SUM_BITS: Final = 62
_AT_ONCE: Final = 4
# Error of the estimate: fp32 differences and quotients are off by 2e-7 of the exponent, which is 12
# on average at most, exponentials and pairwise sums by less; in all below 5e-6.
_MARGIN: Final = 1e-5


def draw(scores: torch.Tensor, rows: Sequence[SampleRow]) -> torch.Tensor:
    """Draw one id per row.

    Args:
        scores: Logits after penalties and bias, fp32; no NaN or +inf, and every row has a finite
            entry. ``[rows, ids]``.
        rows: Their parameters; none is greedy.

    Returns:
        Ids. ``[rows]``.
    """
    width = scores.shape[1]
    settings = _settings(rows, scores)
    chosen = torch.empty(len(rows), dtype=torch.int64, device=scores.device)
    plain, near, far = (
        [i for i, row in enumerate(rows) if reach(row, width) == k] for k in (0, 1, 2)
    )
    # A few rows at a time: whole rows in fp64 should stay in the processor's cache.
    for at in range(0, len(plain), _AT_ONCE):
        own, own_settings, where = _rows(plain[at : at + _AT_ONCE], scores, settings)
        chosen[where] = invert(whole_weights(own, own_settings[:, 0]), own_settings[:, 1])
    for count, measure in ((PREFILTER // 4, _estimated), (PREFILTER, _exact)):
        if near:
            own, own_settings, where = _rows(near, scores, settings)
            wanted = any(_shares_whole(rows[index], width) for index in near)
            masses = measure(own, own_settings[:, 0]) if wanted else (own_settings[:, 0],) * 2
            chosen[where], sure = truncated(count, own, own_settings, *masses)
            near = [at for at, is_sure in zip(near, sure.tolist(), strict=True) if not is_sure]
    far += near
    if far:
        own, own_settings, where = _rows(far, scores, settings)
        chosen[where], _ = truncated(width, own, own_settings, *_exact(own, own_settings[:, 0]))
    return chosen


def whole_weights(scores: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
    """Weights of every id as whole numbers, whose sums are exact.

    Args:
        scores: fp32; every row has a finite entry, and none is NaN or +inf. ``[rows, ids]``.
        heat: Temperatures, float64. ``[rows]``.
    """
    return _weights(scores, scores.amax(dim=-1, keepdim=True), heat, scores.shape[1])


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
    values, ids = _top(scores, count)
    ids, by_id = ids.sort(dim=-1)
    values, order = values.gather(1, by_id).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(1, order)


def _top(scores: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest in any order: only the stretches with the highest maxima can hold them."""
    rows, width = scores.shape
    length = 1 << max(width // (4 * count), 1).bit_length() - 1
    if length < 8 or scores.device.type != "cpu":
        return scores.topk(count, dim=-1)  # a GPU does this at once
    whole = width // length * length
    maxima = scores[:, :whole].unflatten(1, (-1, length)).amax(dim=-1)
    stretches = maxima.topk(count, dim=-1, sorted=False).indices
    ids = stretches[:, :, None] * length + torch.arange(length)
    rest = torch.arange(whole, width).expand(rows, -1)
    ids = torch.cat((ids.view(rows, -1), rest), dim=1)
    values, places = scores.gather(1, ids).topk(count, dim=-1, sorted=False)
    return values, ids.gather(1, places)


def _rows(
    where: Sequence[int], scores: torch.Tensor, settings: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Some rows, in order, and their places; no copies where that is all of them."""
    index = torch.tensor(where, device=scores.device)
    if len(where) == len(scores):
        return scores, settings, index
    return scores[index], settings[index], index


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
    count: int,
    scores: torch.Tensor,
    settings: torch.Tensor,
    least: torch.Tensor,
    most: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw from the ``count`` likeliest; say for which rows no other outcome was possible.

    Args:
        count: How many to look at.
        scores: ``[rows, ids]``.
        settings: Temperature, noise, top-k, top-p, min-p. ``[rows, 5]``, float64.
        least: Lower bounds of the whole rows' weights, float64. ``[rows]``. Without a top-k the
            whole vocabulary is the mass that top-p is a share of.
        most: Upper bounds.
    """
    width = scores.shape[1]
    values, ids = sorted_top(scores, count)
    heat, noise, limits, top_p, min_p = settings.unbind(dim=1)
    within = torch.arange(count, device=scores.device) < limits[:, None]
    kept = _weights(values, values[:, :1], heat, width) * within
    own = kept.sum(dim=-1).double()
    most, least = (torch.where(limits >= width, mass, own) for mass in (most, least))
    before = kept.cumsum(dim=-1) - kept
    # A token stays while those likelier than it have not reached top_p; so the first always stays.
    keep = before < (top_p * most)[:, None]
    sure = (keep == (before < (top_p * least)[:, None])).all(dim=-1)
    # Candidates fewer than top-k leaves are not the mass that its top-p is a share of.
    sure = (sure & ((limits <= count) | (limits >= width))) | (top_p == 1.0)
    keep |= (top_p == 1.0)[:, None]
    keep &= kept >= min_p[:, None] * kept[:, :1]
    kept = kept * keep
    chosen = ids.gather(1, invert(kept, noise)[:, None])[:, 0]
    # Of ids equal to the last candidate some may be missing, so none of these may be kept.
    lowest = values.masked_fill(kept == 0, float("inf")).amin(dim=-1)
    return chosen, sure & ((lowest > values[:, -1]) | (count >= width))


def _shares_whole(row: SampleRow, width: int) -> bool:
    """Whether top-p is a share of the whole vocabulary's weight."""
    return row.params.top_p < 1.0 and limit_of(row, width) == width


def _weights(
    scores: torch.Tensor, likeliest: torch.Tensor, heat: torch.Tensor, width: int
) -> torch.Tensor:
    """Whole numbers in proportion to the probabilities, for all or some of a row's ids.

    Args:
        scores: ``[rows, n]``.
        likeliest: The rows' highest. ``[rows, 1]``.
        heat: Temperatures. ``[rows]``.
        width: Ids of a whole row.
    """
    # The likeliest becomes 0 first: differences stay finite at any temperature.
    apart = scores.double() - likeliest.double()
    bits = _SUM_BITS - width.bit_length()
    return apart.div_(heat[:, None]).exp_().mul_(2.0**bits).long()


def _exact(scores: torch.Tensor, heat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight of whole rows, twice. ``[rows]`` each."""
    parts = [
        whole_weights(scores[at : at + _AT_ONCE], heat[at : at + _AT_ONCE]).sum(dim=-1)
        for at in range(0, len(scores), _AT_ONCE)
    ]
    total = torch.cat(parts).double()
    return total, total


def _estimated(scores: torch.Tensor, heat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Between which numbers the weight of whole rows lies. ``[rows]`` each."""
    apart = scores - scores.amax(dim=-1, keepdim=True)
    total = apart.div_(heat[:, None].float()).exp_().sum(dim=-1).double()
    total *= 2.0 ** (_SUM_BITS - scores.shape[1].bit_length())
    return total * (1 - _MARGIN), total * (1 + _MARGIN)


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
