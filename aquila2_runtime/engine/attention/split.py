"""SplitAttention: attention whose keys and values lie on several devices, each layer's on its own.

It only hands on: every stage has a cache of its own layers and an implementation over it. A step's
plan is made on the first device, and brought to each of the others once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch

from aquila2_runtime.engine.attention.base import Attention

if TYPE_CHECKING:
    from aquila2_runtime.engine.attention.plan import AttentionPlan
    from aquila2_runtime.engine.stages import Stage


class SplitAttention(Attention):
    """Attention over several devices.

    Args:
        stages: Which layers lie where.
        parts: The same implementation for each of them; layers are counted from the stage's first.
    """

    name: ClassVar[str] = "split"

    def __init__(self, stages: Sequence[Stage], parts: Sequence[Attention]) -> None:
        # Blocks are alike in all of them: what is asked of the cache, the first one answers.
        super().__init__(parts[0].cache)
        self._devices = [stage.device for stage in stages]
        self._parts = list(parts)
        self.tile = parts[0].tile
        self._places = [
            (at, layer - stage.first) for at, stage in enumerate(stages) for layer in stage.layers
        ]
        self._plan: AttentionPlan | None = None
        self._plans: dict[int, AttentionPlan] = {}

    @property
    def reads_lengths(self) -> bool:  # type: ignore[override]
        """As its parts do."""
        return self._parts[0].reads_lengths

    @property
    def cascades(self) -> bool:  # type: ignore[override]
        """As its parts do."""
        return self._parts[0].cascades

    @property
    def least_saved(self) -> int:  # type: ignore[override]
        """As its parts do."""
        return self._parts[0].least_saved

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        plan: AttentionPlan,
    ) -> torch.Tensor:
        """Have the layer's own part do it (see ``Attention.attend``)."""
        if plan is not self._plan:
            self._plan, self._plans = plan, {0: plan}
        at, own = self._places[layer]
        brought = self._plans.get(at)
        if brought is None:
            brought = self._plans[at] = plan_on(plan, self._devices[at])
        return self._parts[at].attend(own, query, key, value, brought)


def plan_on(plan: AttentionPlan, device: torch.device) -> AttentionPlan:
    """A plan whose tensors are on a device."""

    def bring(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device, non_blocking=True)

    def brought(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else bring(tensor)

    return dataclasses.replace(
        plan,
        slots=bring(plan.slots),
        decode_blocks=brought(plan.decode_blocks),
        decode_mask=brought(plan.decode_mask),
        decode_lengths=brought(plan.decode_lengths),
        prefills=tuple(
            dataclasses.replace(part, blocks=bring(part.blocks)) for part in plan.prefills
        ),
        shared=tuple(
            dataclasses.replace(part, rows=bring(part.rows), blocks=bring(part.blocks))
            for part in plan.shared
        ),
    )
