"""Sampler: logits to ids, every row by its own parameters. It knows no requests and no text.

What is done to a row, in order: its log-probabilities are taken from the raw logits; repetition,
presence and frequency penalties; ``logit_bias``; ids that would end the answer before
``min_tokens`` are barred; then the likeliest id (greedy), or temperature, top-k, top-p, min-p and
a draw. A row's result depends on its own logits, parameters, seed and step, and on nothing else in
the batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import torch

from aquila2_runtime.engine.base import IdLogprob
from aquila2_runtime.engine.sample_row import SampleRow
from aquila2_runtime.engine.truncation import draw

__all__ = ["SampleRow", "Sampled", "Sampler"]

_NEVER: Final = float("-inf")


@dataclasses.dataclass(frozen=True, slots=True)
class Sampled:
    """What was chosen.

    Attributes:
        token_ids: One per row; -1 where none could be chosen.
        logprobs: One per row; None where not asked for.
        failed: Rows without a choice, and why.
    """

    token_ids: list[int]
    logprobs: list[IdLogprob | None]
    failed: dict[int, str]


class Sampler:
    """Chooses ids.

    Args:
        vocab_size: Columns of the logits.
        n_decodable: Ids the tokenizer can spell; those above are never chosen.
    """

    def __init__(self, vocab_size: int, n_decodable: int) -> None:
        self._vocab_size = vocab_size
        self._n_decodable = min(n_decodable, vocab_size)

    def sample(self, logits: torch.Tensor, rows: Sequence[SampleRow]) -> Sampled:
        """Choose the next id of every row.

        Args:
            logits: ``[rows, vocab]``, any float type, on any device.
            rows: Their parameters and histories.
        """
        scores = self._decodable(logits)
        failed = _unusable(scores)
        logprobs = self._logprobs(scores, rows, failed)
        edited = [index for index, row in enumerate(rows) if row.edits_logits]
        if edited:
            scores = scores.clone()
            for index in edited:
                _edit(scores[index], rows[index])
        chosen = scores.argmax(dim=-1)
        drawn = [
            index for index, row in enumerate(rows) if not row.params.greedy and index not in failed
        ]
        if drawn:
            where = torch.tensor(drawn, device=scores.device)
            chosen[where] = draw(scores[where], [rows[index] for index in drawn])
        token_ids: list[int] = chosen.tolist()
        # What was chosen must have been possible: a row may have been barred completely.
        ends = scores.gather(1, chosen[:, None])[:, 0].isneginf().tolist()
        for index, impossible in enumerate(ends):
            if impossible and index not in failed:
                failed[index] = "No token is allowed: logit_bias and min_tokens bar all of them."
        for index in failed:
            token_ids[index] = -1
        described = [
            None if found is None else _entry(token_ids[index], found[0], found[1])
            for index, found in enumerate(logprobs)
        ]
        return Sampled(token_ids, described, failed)

    def prompt_logprobs(
        self, logits: torch.Tensor, token_ids: Sequence[int], count: int
    ) -> list[IdLogprob]:
        """Log-probabilities of given ids.

        Args:
            logits: ``[tokens, vocab]``, each row predicting the id at its place.
            token_ids: The ids.
            count: How many of the likeliest to list beside each.
        """
        logprobs = self._decodable(logits).log_softmax(dim=-1)
        return [_entry(token_id, logprobs[at], count) for at, token_id in enumerate(token_ids)]

    def _decodable(self, logits: torch.Tensor) -> torch.Tensor:
        scores = logits.float()
        if self._n_decodable < scores.shape[1]:
            scores = scores.clone()
            scores[:, self._n_decodable :] = _NEVER
        return scores

    def _logprobs(
        self, scores: torch.Tensor, rows: Sequence[SampleRow], failed: dict[int, str]
    ) -> list[tuple[torch.Tensor, int] | None]:
        wanted = [
            None if index in failed else row.params.logprobs for index, row in enumerate(rows)
        ]
        if all(count is None for count in wanted):
            return [None] * len(rows)
        return [
            None if count is None else (scores[index].log_softmax(dim=-1), count)
            for index, count in enumerate(wanted)
        ]


def _unusable(scores: torch.Tensor) -> dict[int, str]:
    """Rows no id may be chosen from. NaN must be found here: argmax would choose it."""
    bad = scores.isnan().any(dim=-1) | scores.isposinf().any(dim=-1)
    bad |= scores.isneginf().all(dim=-1)
    reason = "The model's logits are not finite; its weights or number type are at fault."
    return {index: reason for index, is_bad in enumerate(bad.tolist()) if is_bad}


def _edit(scores: torch.Tensor, row: SampleRow) -> None:
    """Apply penalties, bias and min_tokens to one row ``[vocab]``, in place."""
    params = row.params
    if params.repetition_penalty != 1.0:
        seen = torch.tensor(sorted(row.prompt_ids | row.counts.keys()), device=scores.device)
        old = scores[seen]
        penalty = params.repetition_penalty
        scores[seen] = torch.where(old > 0, old / penalty, old * penalty)
    if row.counts and (params.presence_penalty or params.frequency_penalty):
        ids = torch.tensor(list(row.counts), device=scores.device)
        times = torch.tensor(list(row.counts.values()), device=scores.device, dtype=scores.dtype)
        scores[ids] -= params.presence_penalty + params.frequency_penalty * times
    if params.logit_bias:
        ids = torch.tensor(list(params.logit_bias), device=scores.device)
        bias = torch.tensor(list(params.logit_bias.values()), device=scores.device)
        scores[ids] += bias.to(scores.dtype)
    if row.step < params.min_tokens and params.stop_ids:
        scores[torch.tensor(params.stop_ids, device=scores.device)] = _NEVER


def _entry(token_id: int, logprobs: torch.Tensor, count: int) -> IdLogprob:
    top: tuple[tuple[int, float], ...] = ()
    if count:
        values, ids = logprobs.topk(min(count, logprobs.shape[0]))
        top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return IdLogprob(token_id, float(logprobs[token_id]), top)
