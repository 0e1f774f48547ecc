"""Stages: runs of consecutive layers, each on one device. They know no weights and no requests."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from aquila2_runtime.engine.pointwise import Pointwise


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """Consecutive layers on one device. The embedding is on the first one, the head on the last.

    Attributes:
        device: Where they are.
        first: Index of the first layer.
        count: How many layers.
    """

    device: torch.device
    first: int
    count: int

    @property
    def layers(self) -> range:
        """Indices of the layers."""
        return range(self.first, self.first + self.count)

    def enter(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Bring a step's tensors here, and have kernels launched here from now on.

        torch makes the streams of both devices wait for each other; the host waits for neither.
        """
        if self.device.type == "cuda":
            # Triton launches on the current device, whatever it is given.
            torch.cuda.set_device(self.device)
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in tensors)


def stages_of(devices: Sequence[torch.device], counts: Sequence[int]) -> tuple[Stage, ...]:
    """Stages one after the other.

    Args:
        devices: In the order of the layers.
        counts: Layers on each.
    """
    starts = [sum(counts[:at]) for at in range(len(counts))]
    return tuple(
        Stage(device, start, count)
        for device, start, count in zip(devices, starts, counts, strict=True)
    )


def pointwise_on(pointwise: Pointwise, device: torch.device) -> Pointwise:
    """The same operations for another device."""
    return type(pointwise)(pointwise.eps, pointwise.dtype, device)
