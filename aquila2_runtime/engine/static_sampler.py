"""Sampling whose launches depend on no data, so that a captured step can hold them. No requests.

The arithmetic is ``truncation``'s and ``noise``'s; what differs is that nothing is decided on the
host. A row whose answer would need such a decision (the filters reach past the prefilter, or its
logits are not finite) comes out as ``REDO``, for the plain sampler to choose or to refuse.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import torch

from aquila2_runtime.engine.filters import PREFILTER, limit_of, reach
from aquila2_runtime.engine.noise import GAMMA, LAST_SHIFT, MIX
from aquila2_runtime.engine.sample_row import SampleRow
from aquila2_runtime.engine.truncation import invert, truncated, whole_weights

REDO: Final = -1


@dataclasses.dataclass(frozen=True, slots=True)
class StaticRows:
    """What a step's rows are sampled by.

    Attributes:
        states: First noise state of each seed, as 64 signed bits. ``[rows]``.
        steps: Tokens of each answer so far. ``[rows]``.
        settings: Temperature (1 for greedy rows), top-k, top-p, min-p; float64. ``[rows, 4]``.
        greedy: Rows that take the likeliest id. ``[rows]``.
        filtered: Rows with a filter. ``[rows]``.
    """

    states: torch.Tensor
    steps: torch.Tensor
    settings: torch.Tensor
    greedy: torch.Tensor
    filtered: torch.Tensor


def serves(row: SampleRow, width: int) -> bool:
    """Whether a request can be sampled here: nothing edits its logits or asks about them.

    Args:
        row: Its sampling state.
        width: Ids that can be chosen.
    """
    if row.edits_logits or row.constraint is not None or row.params.logprobs is not None:
        return False
    return row.params.greedy or width <= PREFILTER or reach(row, width) < 2


def settings_of(row: SampleRow, width: int) -> tuple[float, float, float, float]:
    """A row of ``StaticRows.settings``."""
    params = row.params
    if params.greedy:
        return 1.0, float(width), 1.0, 0.0
    return params.temperature, float(limit_of(row, width)), params.top_p, params.min_p


def is_filtered(row: SampleRow, width: int) -> bool:
    """Whether top-k, top-p or min-p is on."""
    return not row.params.greedy and reach(row, width) > 0


def sample_static(logits: torch.Tensor, rows: StaticRows, *, drawn: bool) -> torch.Tensor:
    """Choose one id per row.

    Args:
        logits: fp32, only ids that may be chosen. ``[rows, ids]``.
        rows: Their parameters.
        drawn: Whether any row may not be greedy; decided when a step is captured.

    Returns:
        Ids, or ``REDO``. ``[rows]``.
    """
    likeliest = logits.argmax(dim=-1)
    # NaN and +inf are argmax's first choice, -inf its last: this one number tells of the row.
    finite = logits.gather(1, likeliest[:, None])[:, 0].isfinite()
    if not drawn:
        return likeliest.masked_fill(~finite, REDO)
    # Zeros in place of what cannot be sorted: indices stay inside, and the row is redone anyway.
    scores = logits.masked_fill(~finite[:, None], 0.0)
    noise = uniforms(rows.states, rows.steps)
    heat, limits, top_p, min_p = rows.settings.unbind(dim=1)
    weights = whole_weights(scores, heat)
    settings = torch.stack((heat, noise, limits, top_p, min_p), dim=1)
    mass = weights.sum(dim=-1).double()
    count = min(PREFILTER, scores.shape[1])
    kept, complete = truncated(count, scores, settings, mass, mass)
    drawn_ids = torch.where(rows.filtered, kept, invert(weights, noise))
    known = finite & (rows.greedy | ~rows.filtered | complete)
    chosen = torch.where(rows.greedy, likeliest, drawn_ids)
    return chosen.masked_fill(~known, REDO)


def uniforms(states: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """``noise.uniform`` of every row, bit for bit. ``[rows]``, float64.

    Args:
        states: ``noise.first_state`` of each seed, as 64 signed bits.
        steps: Which token of its answer.
    """
    value = states + (steps + 1) * signed(GAMMA)
    for shift, factor in MIX:
        value = (value ^ _shifted(value, shift)) * signed(factor)
    value = value ^ _shifted(value, LAST_SHIFT)
    return _shifted(value, 11).double() * 2.0**-53


def signed(value: int) -> int:
    """The signed number of the same 64 bits."""
    return value - 2**64 if value >= 2**63 else value


def _shifted(value: torch.Tensor, count: int) -> torch.Tensor:
    """Bits moved to the right, zeros coming in: torch's own shift copies the sign."""
    return (value >> count) & ((1 << (64 - count)) - 1)
