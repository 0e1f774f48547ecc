"""Sampler: logits to ids, every row by its own parameters. It knows no requests and no text.

What is done to a row, in order: its log-probabilities are taken from the raw logits; repetition,
presence and frequency penalties; ``logit_bias``; ids that would end the answer before
``min_tokens`` are barred, and those that its constraint does not allow; then the likeliest id
(greedy; the lowest of equal ones), or temperature, top-k, top-p, min-p and a draw. A constraint has
the last word on what was chosen. A row's result depends on its own logits, parameters, seed, step
and constraint, and on nothing else in the batch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

import torch

from aquila2_runtime.engine import masks
from aquila2_runtime.engine.base import IdLogprob
from aquila2_runtime.engine.crossing import brought
from aquila2_runtime.engine.likeliest import highest, stretch_maxima
from aquila2_runtime.engine.logprobs import entries
from aquila2_runtime.engine.penalties import edit
from aquila2_runtime.engine.sample_row import SampleRow
from aquila2_runtime.engine.truncation import draw
from aquila2_runtime.errors import GenerationError

__all__ = ["SampleRow", "Sampled", "Sampler"]

_NOT_FINITE: Final = "The model's logits are not finite; its weights or number type are at fault."
_ALL_BARRED: Final = (
    "No token is allowed: logit_bias, min_tokens and the constraint together bar all of them."
)
Masks = dict[int, bytes]


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
        self.n_decodable = min(n_decodable, vocab_size)

    def sample(self, logits: torch.Tensor, rows: Sequence[SampleRow]) -> Sampled:
        """Choose the next id of every row.

        Args:
            logits: ``[rows, vocab]``, any float type, on any device; not changed.
            rows: Their parameters and histories.
        """
        scores = self._decodable(logits)
        greedy = any(row.greedy for row in rows)
        token_ids, finite, maxima = _likeliest(scores, named=greedy)
        failed = {index: _NOT_FINITE for index, is_finite in enumerate(finite) if not is_finite}
        constrained = [index for index, row in enumerate(rows) if row.constraint is not None]
        allowed = _ask(rows, constrained, token_ids, failed)
        # Rows that nothing is done to are drawn from as they are. The others are two groups, so
        # that each row's logits are copied once at most.
        plain: list[int] = []
        edited: list[int] = []
        drawn: list[int] = []
        for index, row in enumerate(rows):
            changed = index in allowed or row.edits_logits
            if index not in failed and (changed or not row.greedy):
                (plain if not changed else edited if row.greedy else drawn).append(index)
        if plain:
            ids = _drawn(scores, rows, plain, maxima)
            for index, token_id in zip(plain, ids, strict=True):
                token_ids[index] = token_id
        for group in (edited, drawn):
            if group:
                _choose_again(scores, rows, group, allowed, token_ids, failed)
        _settle(rows, constrained, token_ids, failed)
        for index in failed:
            token_ids[index] = -1
        return Sampled(token_ids, _describe(scores, rows, token_ids), failed)

    def prompt_logprobs(
        self, logits: torch.Tensor, token_ids: Sequence[int], count: int
    ) -> list[IdLogprob]:
        """Log-probabilities of given ids.

        Args:
            logits: ``[tokens, vocab]``, each row predicting the id at its place.
            token_ids: The ids.
            count: How many of the likeliest to list beside each.
        """
        return entries(self._decodable(logits), token_ids, [count] * len(token_ids))

    def _decodable(self, logits: torch.Tensor) -> torch.Tensor:
        return logits[:, : self.n_decodable].float()


def _likeliest(
    scores: torch.Tensor, *, named: bool
) -> tuple[list[int], list[bool], torch.Tensor | None]:
    """Every row's likeliest id, whether its logit is finite, and the scores' ``stretch_maxima``.

    That one logit tells all: it is NaN or else +inf where the row holds one, and -inf only where
    the row holds nothing else. Ids that are not ``named`` may be any number.
    """
    if scores.device.type == "cpu":
        maxima = stretch_maxima(scores)
        if maxima is not None and not named:
            places, largest = torch.zeros(len(scores), dtype=torch.int64), maxima.amax(dim=-1)
        else:
            largest, places = highest(scores, maxima)
        return places.tolist(), [math.isfinite(value) for value in largest.tolist()], maxima
    chosen = scores.argmax(dim=-1)
    finite = scores.gather(1, chosen[:, None])[:, 0].isfinite()
    both: list[list[int]] = torch.stack((chosen, finite.long())).tolist()
    return both[0], [bool(is_finite) for is_finite in both[1]], None


def _drawn(
    scores: torch.Tensor,
    rows: Sequence[SampleRow],
    some: Sequence[int],
    maxima: torch.Tensor | None,
) -> list[int]:
    """Draw from some of the rows."""
    if len(some) < len(rows):
        index = brought(some, scores.device)
        scores = scores[index]
        maxima = None if maxima is None else maxima[index]
    ids: list[int] = draw(scores, [rows[i] for i in some], maxima).tolist()
    return ids


def _ask(
    rows: Sequence[SampleRow],
    constrained: Sequence[int],
    likeliest: Sequence[int],
    failed: dict[int, str],
) -> Masks:
    """The masks of the rows whose constraints bar an id that could be chosen.

    The likeliest id of all is the likeliest of those allowed, if it is one of them; so a greedy row
    needs a mask only where it is not.
    """
    found: Masks = {}
    for index in constrained:
        row = rows[index]
        if row.constraint is None or index in failed:
            continue
        greedy = row.greedy and not row.edits_logits
        try:
            if greedy and row.constraint.allows(likeliest[index]):
                continue
            mask = row.constraint.mask()
        except GenerationError as error:
            failed[index] = str(error)
            continue
        if mask is not None:
            found[index] = mask
    return found


def _settle(
    rows: Sequence[SampleRow],
    constrained: Sequence[int],
    token_ids: list[int],
    failed: dict[int, str],
) -> None:
    """Let the constraints have the last word."""
    for index in constrained:
        constraint = rows[index].constraint
        if constraint is not None and index not in failed:
            try:
                token_ids[index] = constraint.settle(token_ids[index])
            except GenerationError as error:
                failed[index] = str(error)


def _choose_again(
    scores: torch.Tensor,
    rows: Sequence[SampleRow],
    group: Sequence[int],
    allowed: Masks,
    token_ids: list[int],
    failed: dict[int, str],
) -> None:
    """Replace the likeliest ids of a group, all of it greedy or all of it drawn."""
    some = [rows[index] for index in group]
    own = scores[brought(group, scores.device)]
    edit(own, some)
    masks.apply(own, [allowed.get(index) for index in group])
    chosen, finite, maxima = _likeliest(own, named=some[0].greedy)
    open_ = [at for at, is_finite in enumerate(finite) if is_finite]
    failed.update({group[at]: _ALL_BARRED for at in range(len(group)) if not finite[at]})
    if open_ and not some[0].greedy:
        drawn = _drawn(own, some, open_, maxima)
        for at, token_id in zip(open_, drawn, strict=True):
            chosen[at] = token_id
    for at, token_id in enumerate(chosen):
        token_ids[group[at]] = token_id


def _describe(
    scores: torch.Tensor, rows: Sequence[SampleRow], token_ids: Sequence[int]
) -> list[IdLogprob | None]:
    wanted = [
        (index, row.params.logprobs)
        for index, row in enumerate(rows)
        if row.params.logprobs is not None and token_ids[index] >= 0
    ]
    described: list[IdLogprob | None] = [None] * len(rows)
    if wanted:
        where = [index for index, _ in wanted]
        own = scores[brought(where, scores.device)]
        found = entries(own, [token_ids[i] for i in where], [count for _, count in wanted])
        for index, entry in zip(where, found, strict=True):
            described[index] = entry
    return described
