"""SampleRow: what sampling remembers of one request. It chooses nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Self

from aquila2_runtime.engine.noise import uniform
from aquila2_runtime.sampling import SamplingParams

if TYPE_CHECKING:
    import torch

    from aquila2_runtime.engine.constraint import TokenConstraint


@dataclasses.dataclass(slots=True)
class SampleRow:
    """Parameters and history of one request.

    Attributes:
        params: What was asked for.
        seed: Of this answer's noise.
        prompt_ids: Different ids of the prompt; empty unless a penalty needs them.
        counts: How often each id occurs in the answer; empty unless a penalty needs it.
        stop_ids: Every id that ends the answer; barred until ``min_tokens``.
        step: Tokens of the answer so far.
        constraint: Which ids may come next; None for all.
        prompt_index: ``prompt_ids`` on the device; made by the penalties at first use.
        greedy: Whether the likeliest id is always taken.
        penalized: Whether any penalty is on.
        edits: Whether logits are changed at every step.
    """

    params: SamplingParams
    seed: int
    prompt_ids: frozenset[int]
    counts: dict[int, int]
    stop_ids: tuple[int, ...] = ()
    step: int = 0
    constraint: TokenConstraint | None = None
    prompt_index: torch.Tensor | None = dataclasses.field(default=None, repr=False, compare=False)

    # Of the parameters, which do not change; asked for at every step.
    greedy: bool = dataclasses.field(init=False, repr=False)
    penalized: bool = dataclasses.field(init=False, repr=False)
    edits: bool = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        params = self.params
        self.greedy = params.greedy
        self.penalized = (
            params.repetition_penalty != 1.0
            or params.presence_penalty != 0.0
            or params.frequency_penalty != 0.0
        )
        self.edits = self.penalized or bool(params.logit_bias)

    @classmethod
    def create(
        cls,
        params: SamplingParams,
        seed: int,
        prompt_token_ids: Sequence[int],
        stop_ids: Collection[int] | None = None,
        constraint: TokenConstraint | None = None,
    ) -> Self:
        """Begin an answer; without ``stop_ids`` those of the parameters are the only ones."""
        seen = frozenset(prompt_token_ids) if params.repetition_penalty != 1.0 else frozenset()
        ends = params.stop_ids if stop_ids is None else tuple(sorted(stop_ids))
        return cls(params, seed, seen, {}, ends, constraint=constraint)

    def append(self, token_id: int) -> None:
        """Note an accepted token."""
        self.step += 1
        if self.constraint is not None:
            self.constraint.advance(token_id)
        if self.penalized:
            self.counts[token_id] = self.counts.get(token_id, 0) + 1

    @property
    def edits_logits(self) -> bool:
        """Whether its logits are changed before a token is chosen from them."""
        return self.edits or self.step < self.params.min_tokens

    @property
    def noise(self) -> float:
        """This step's number in [0, 1)."""
        return uniform(self.seed, self.step)
