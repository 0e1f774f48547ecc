"""Truncation and drawing: temperature, top-k, top-p, min-p, one draw a row. It keeps no state.

Filters apply in the order of Hugging Face's ``generate``: temperature, top-k, top-p (over what
top-k left), min-p (relative to the likeliest). Equally likely ids are ordered by id, so a filter
may keep some of them and drop the rest.

Sorting a whole vocabulary costs more than a small model's forward pass, so a few of the likeliest
are sorted: 64 at first, then 256 and 1,024, and all only where the filters reach further or their
border runs through equal logits that may lie outside.

Weights are whole numbers: ``exp(score - likeliest)`` times a power of two, rounded down. Their sums
are exact in any order, so no kernel's way of adding and no other row can change a result. What is
lost is below 1e-13 of the likeliest token's weight for vocabularies up to 262,143.

Top-p is a share of the whole row's weight, which takes longer to add up exactly than all the rest.
So it is first estimated in fp32, to better than one part in 100,000; where every value within that
keeps the same ids they are the right ones, and only the other rows are added up exactly.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import torch

from aquila2_runtime.engine.crossing import brought
from aquila2_runtime.engine.filters import ALL, PREFILTER, Filters, limit_of, reach
from aquila2_runtime.engine.likeliest import sorted_top, top_of_row
from aquila2_runtime.engine.sample_row import SampleRow
from aquila2_runtime.engine.single_row import Limits, draw_one, in_order

_SUM_BITS: Final = 62
_AT_ONCE: Final = 4
_AT_ONCE_ELSEWHERE: Final = 64  # a GPU is only filled by many; a vocabulary's take 51 MB
# Error of the estimate: fp32 differences and products are off by 2e-7 of the exponent, which is 12
# on average at most, exponentials and pairwise sums by less; in all below 5e-6.
_MARGIN: Final = 1e-5


def draw(
    scores: torch.Tensor, rows: Sequence[SampleRow], maxima: torch.Tensor | None = None
) -> torch.Tensor:
    """Draw one id per row.

    Args:
        scores: Logits after penalties and bias, fp32; no NaN or +inf, and every row has a finite
            entry. ``[rows, ids]``.
        rows: Their parameters; none is greedy.
        maxima: The scores' ``stretch_maxima``, where they are known.

    Returns:
        Ids. ``[rows]``.
    """
    width = scores.shape[1]
    settings = _settings(rows, scores)
    chosen = torch.empty(len(rows), dtype=torch.int64, device=scores.device)
    reaches = [reach(row, width) for row in rows]
    plain, near, far = ([i for i, found in enumerate(reaches) if found == k] for k in (0, 1, 2))
    # A few rows at a time: whole rows in fp64 should stay in the processor's cache.
    at_once = _AT_ONCE if scores.device.type == "cpu" else _AT_ONCE_ELSEWHERE
    for at in range(0, len(plain), at_once):
        where = plain[at : at + at_once]
        own, own_settings = _some(where, scores, settings)
        chosen[where] = invert(whole_weights(own, own_settings[:, 0]), own_settings[:, 1])
    for share, measure in ((16, _estimated), (4, _estimated), (1, _exact)):
        count = max(PREFILTER // share, 1)
        # Of a top-k the candidates must hold all.
        now = [i for i in near if not count < limit_of(rows[i], width) < width]
        if now:
            own, own_settings, *own_maxima = _some(now, scores, settings, maxima)
            filters = Filters.of([rows[i] for i in now], width)
            masses = (own_settings[:, 0],) * 2
            if filters.whole:
                masses = measure(own, own_settings[:, 0], *own_maxima)
            ids, is_sure = truncated(
                count, own, own_settings, *masses, *own_maxima, filters=filters
            )
            sure: list[bool] = is_sure.tolist()
            if len(now) == len(rows) and all(sure):
                return ids
            chosen[now] = ids
            done = set(itertools.compress(now, sure))
            near = [i for i in near if i not in done]
    far += near
    if far:
        own, own_settings = _some(far, scores, settings)
        chosen[far], _ = truncated(width, own, own_settings, *_exact(own, own_settings[:, 0]))
    return chosen


def whole_weights(scores: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
    """Weights of every id as whole numbers, whose sums are exact.

    Args:
        scores: fp32; every row has a finite entry, and none is NaN or +inf. ``[rows, ids]``.
        heat: Temperatures, float64. ``[rows]``.
    """
    return _weights(scores, scores.amax(dim=-1, keepdim=True), heat, scores.shape[1])


def _some(where: Sequence[int], *tensors: torch.Tensor | None) -> list[torch.Tensor]:
    """Some rows of tensors, in order; no copies where that is all of them."""
    given = [tensor for tensor in tensors if tensor is not None]
    if len(where) == len(given[0]):
        return given
    index = brought(where, given[0].device)
    return [tensor[index] for tensor in given]


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
    return brought(listed, scores.device, torch.float64)


def truncated(
    count: int,
    scores: torch.Tensor,
    settings: torch.Tensor,
    least: torch.Tensor,
    most: torch.Tensor,
    maxima: torch.Tensor | None = None,
    *,
    filters: Filters = ALL,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw from the ``count`` likeliest; say for which rows no other outcome was possible.

    Args:
        count: How many to look at.
        scores: ``[rows, ids]``.
        settings: Temperature, noise, top-k, top-p, min-p. ``[rows, 5]``, float64.
        least: Lower bounds of the whole rows' weights, float64. ``[rows]``. Without a top-k the
            whole vocabulary is the mass that top-p is a share of.
        most: Upper bounds.
        maxima: The scores' ``stretch_maxima``, where they are known.
        filters: Which filters the rows have.
    """
    width = scores.shape[1]
    if len(scores) == 1 and count < width and scores.device.type == "cpu":
        return _truncated_one(count, scores, settings, least, most, maxima)
    values, ids = sorted_top(scores, count, maxima)
    heat, noise, limits, top_p, min_p = settings.unbind(dim=1)
    kept = _weights(values, values[:, :1], heat, width)
    if filters.top_k:
        kept *= torch.arange(count, device=scores.device) < limits[:, None]
        own = kept.sum(dim=-1).double()
        most, least = (torch.where(limits >= width, mass, own) for mass in (most, least))
    keep, sure = _share(kept, top_p, least, most) if filters.top_p else (None, None)
    if filters.top_k and sure is not None:
        # Candidates fewer than top-k leaves are not the mass that its top-p is a share of.
        sure &= (limits <= count) | (limits >= width)
    if filters.open and keep is not None and sure is not None:
        sure |= top_p == 1.0
        keep |= (top_p == 1.0)[:, None]
    if filters.min_p:
        likely = kept >= min_p[:, None] * kept[:, :1]
        keep = likely if keep is None else keep & likely
    if keep is not None:
        kept = kept * keep
    chosen = ids.gather(1, invert(kept, noise)[:, None])[:, 0]
    if count >= width:
        everywhere = torch.ones_like(chosen, dtype=torch.bool) if sure is None else sure
        return chosen, everywhere
    # Of ids equal to the last candidate some may be missing, so none of these may be kept.
    inside = values.masked_fill(kept == 0, float("inf")).amin(dim=-1) > values[:, -1]
    return chosen, inside if sure is None else inside & sure


def _truncated_one(
    count: int,
    scores: torch.Tensor,
    settings: torch.Tensor,
    least: torch.Tensor,
    most: torch.Tensor,
    maxima: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What ``truncated`` does, for a single row."""
    width = scores.shape[1]
    values, ids = top_of_row(scores, count, maxima)
    # Exponentials are torch's, so that they are those of the row in a batch.
    weights: list[int] = _weights(values[None], values.max()[None], settings[:, 0], width)[
        0
    ].tolist()
    scored: list[float] = values.tolist()
    _, noise, limit, top_p, min_p = settings[0].tolist()
    top_k = int(limit) if limit < width else None
    limits = Limits(top_k, top_p, min_p, least.item(), most.item())
    order = in_order(scored, ids)
    place, sure = draw_one(
        [scored[at] for at in order], [weights[at] for at in order], limits, noise
    )
    return torch.tensor([ids[order[place]]]), torch.tensor([sure])


def _share(
    weights: torch.Tensor, top_p: torch.Tensor, least: torch.Tensor, most: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What top-p keeps, and whether it keeps that whatever the mass is within its bounds."""
    before = weights.cumsum(dim=-1) - weights
    # A token stays while those likelier than it have not reached top_p; so the first always stays.
    keep = before < (top_p * most)[:, None]
    return keep, (keep == (before < (top_p * least)[:, None])).all(dim=-1)


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


def _exact(
    scores: torch.Tensor, heat: torch.Tensor, _maxima: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight of whole rows, twice. ``[rows]`` each."""
    parts = [
        whole_weights(scores[at : at + _AT_ONCE], heat[at : at + _AT_ONCE]).sum(dim=-1)
        for at in range(0, len(scores), _AT_ONCE)
    ]
    total = torch.cat(parts).double()
    return total, total


def _estimated(
    scores: torch.Tensor, heat: torch.Tensor, maxima: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Between which numbers the weight of whole rows lies. ``[rows]`` each."""
    likeliest = (scores if maxima is None else maxima).amax(dim=-1, keepdim=True)
    cold = heat.reciprocal().float()[:, None]
    total = (scores - likeliest).mul_(cold).exp_().sum(dim=-1).double()
    scale = 2.0 ** (_SUM_BITS - scores.shape[1].bit_length())
    return total * (scale * (1 - _MARGIN)), total * (scale * (1 + _MARGIN))


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
