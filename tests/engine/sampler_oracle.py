"""Brute-force sampling formulas, one token at a time in plain Python. They know no tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aquila2_runtime.engine.sample_row import SampleRow
from aquila2_runtime.sampling import SamplingParams


def row(seed: int = 0, prompt: Sequence[int] = (), step: int = 0, **fields: object) -> SampleRow:
    """A request's sampling state."""
    made = SampleRow.create(SamplingParams.from_kwargs(**fields), seed, prompt)
    made.step = step
    return made


def softmax(logits: Sequence[float]) -> list[float]:
    """Probabilities."""
    most = max(logits)
    weights = [math.exp(value - most) for value in logits]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def probabilities(logits: Sequence[float], params: SamplingParams) -> list[float]:
    """The distribution a token is drawn from: temperature, top-k, top-p, min-p."""
    base = softmax([value / params.temperature for value in logits])
    order = sorted(range(len(base)), key=lambda place: (-logits[place], place))
    if params.top_k > 0:
        order = order[: params.top_k]
    mass = math.fsum(base[place] for place in order)
    kept, before = [], 0.0
    for place in order:
        if kept and params.top_p < 1.0 and before >= params.top_p * mass:
            break
        kept.append(place)
        before += base[place]
    kept = [place for place in kept if base[place] >= params.min_p * base[kept[0]]]
    total = math.fsum(base[place] for place in kept)
    support = set(kept)
    return [base[place] / total if place in support else 0.0 for place in range(len(base))]
