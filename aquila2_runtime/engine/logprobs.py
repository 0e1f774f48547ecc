"""Log-probabilities of ids and the likeliest beside them. It chooses nothing.

They are ``log_softmax`` of the model's raw logits in fp32 over the ids the tokenizer can spell:
before penalties, bias, temperature and truncation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from aquila2_runtime.engine.base import IdLogprob
from aquila2_runtime.engine.crossing import brought
from aquila2_runtime.engine.likeliest import sorted_top

# Sought beyond the listed ones, so that ids equal to the last listed are seen and listed by id.
_SPARE: Final = 64


def entries(
    scores: torch.Tensor, token_ids: Sequence[int], counts: Sequence[int]
) -> list[IdLogprob]:
    """Describe one id per row.

    Args:
        scores: Raw logits, fp32. ``[rows, ids]``.
        token_ids: One id per row.
        counts: How many of the likeliest to list, per row.
    """
    if not token_ids:
        return []
    width = scores.shape[1]
    logprobs = scores.log_softmax(dim=-1)
    places = brought(token_ids, scores.device)
    # An id the tokenizer cannot spell has no probability.
    own = logprobs.gather(1, places.clamp(max=width - 1)[:, None])[:, 0]
    chosen: list[float] = own.masked_fill(places >= width, float("-inf")).tolist()
    most = min(max(counts), width)
    if most == 0:
        return [IdLogprob(*pair) for pair in zip(token_ids, chosen, strict=True)]
    values, ids = _listed(logprobs, most)
    return [
        IdLogprob(token_id, logprob, tuple(zip(row_ids[:count], row_values[:count], strict=True)))
        for token_id, logprob, count, row_ids, row_values in zip(
            token_ids, chosen, counts, ids.tolist(), values.tolist(), strict=True
        )
    ]


def _listed(logprobs: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    sought = min(count + _SPARE, logprobs.shape[1])
    values, ids = sorted_top(logprobs, sought)
    unsure = values[:, count - 1] == values[:, -1]
    if sought < logprobs.shape[1] and bool(unsure.any()):
        more, more_ids = sorted_top(logprobs[unsure], logprobs.shape[1])
        values[unsure], ids[unsure] = more[:, :sought], more_ids[:, :sought]
    return values[:, :count], ids[:, :count]
