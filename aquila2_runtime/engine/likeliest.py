"""Likeliest: the highest logits of each row. It draws nothing and knows no parameters.

On CPU the highest of every 64 neighbours are found first, in one fast pass. The highest of all, and
the candidates for a draw, are then looked for in the few stretches that can hold them: torch's own
searches over a whole vocabulary take several times as long.
"""

from __future__ import annotations

from typing import Final

import torch

_LENGTH: Final = 64
# Below so many numbers a search over all of them takes no longer.
_FEW: Final = 65_536


def stretch_maxima(scores: torch.Tensor) -> torch.Tensor | None:
    """The highest of every stretch, the last of which may be shorter; NaN where one is in it.

    Args:
        scores: ``[rows, ids]``.

    Returns:
        ``[rows, stretches]``; None where searching all ids is as fast, and on a GPU.
    """
    width = scores.shape[1]
    if scores.device.type != "cpu" or scores.numel() < _FEW or width < 2 * _LENGTH:
        return None
    whole = width // _LENGTH * _LENGTH
    maxima: torch.Tensor = scores[:, :whole].unflatten(1, (-1, _LENGTH)).amax(dim=-1)
    if whole == width:
        return maxima
    return torch.cat((maxima, scores[:, whole:].amax(dim=-1, keepdim=True)), dim=1)


def highest(scores: torch.Tensor, maxima: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Every row's highest logit and the lowest id that has it; NaN where the row holds one.

    Args:
        scores: ``[rows, ids]``, on CPU.
        maxima: Their ``stretch_maxima``.

    Returns:
        Values and ids. ``[rows]`` each.
    """
    if maxima is None:
        values, ids = scores.max(dim=-1)
        return values, ids
    values, stretches = maxima.max(dim=-1)
    # Behind the last id it is named again, which changes nothing: the first of equal ones counts.
    places = (stretches[:, None] * _LENGTH + torch.arange(_LENGTH)).clamp_(max=scores.shape[1] - 1)
    return values, places[:, 0] + scores.gather(1, places).argmax(dim=-1)


def sorted_top(
    scores: torch.Tensor, count: int, maxima: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest, most likely first, equal ones by id.

    Where more are equal to the last one than fit, any of those may be listed: which, is up to the
    kernel. Everything above the last value is exact.

    Args:
        scores: ``[rows, ids]``.
        count: How many; at most the number of columns.
        maxima: Their ``stretch_maxima``, where they are known.

    Returns:
        Values and ids. ``[rows, count]`` each.
    """
    if count >= scores.shape[1]:
        values, ids = scores.sort(dim=-1, descending=True, stable=True)
        return values, ids
    values, ids = _top(scores, count, stretch_maxima(scores) if maxima is None else maxima)
    ids, by_id = ids.sort(dim=-1)
    values, order = values.gather(1, by_id).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(1, order)


def top_of_row(
    scores: torch.Tensor, count: int, maxima: torch.Tensor | None = None
) -> tuple[torch.Tensor, list[int]]:
    """What ``sorted_top`` finds for a single row, in any order, with fewer operations.

    Args:
        scores: ``[1, ids]``, on CPU.
        count: How many.
        maxima: Their ``stretch_maxima``, where they are known.

    Returns:
        Values, ``[count]``, and ids.
    """
    maxima = stretch_maxima(scores) if maxima is None else maxima
    row = scores[0]
    whole = row.shape[0] // _LENGTH
    if maxima is None or 2 * count > whole:
        values, ids = row.topk(count, sorted=False)
        return values, ids.tolist()
    stretches = maxima[0, :whole].topk(count, sorted=False).indices
    inside = row[: whole * _LENGTH].view(whole, _LENGTH).index_select(0, stretches).view(-1)
    values, places = torch.cat((inside, row[whole * _LENGTH :])).topk(count, sorted=False)
    starts = [stretch * _LENGTH for stretch in stretches.tolist()] + [whole * _LENGTH]
    return values, [starts[place // _LENGTH] + place % _LENGTH for place in places.tolist()]


def _top(
    scores: torch.Tensor, count: int, maxima: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest in any order: only the stretches with the highest maxima can hold them."""
    rows, width = scores.shape
    whole = width // _LENGTH
    if maxima is None or 2 * count > whole:
        return scores.topk(count, dim=-1)
    stretches = maxima[:, :whole].topk(count, dim=-1, sorted=False).indices
    ids = (stretches[:, :, None] * _LENGTH + torch.arange(_LENGTH)).view(rows, -1)
    if whole * _LENGTH < width:
        rest = torch.arange(whole * _LENGTH, width).expand(rows, -1)
        ids = torch.cat((ids, rest), dim=1)
    values, places = scores.gather(1, ids).topk(count, dim=-1, sorted=False)
    return values, ids.gather(1, places)
