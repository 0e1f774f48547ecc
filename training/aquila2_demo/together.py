"""Owns what processes that train one network together share: gradients, time, the wish to stop.

It knows no network and no data. Every process has the same weights and takes the same steps, each
from rows of its own. torchrun starts them and says how many there are; without it there is one.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import nn


class Together:
    """The processes of a run.

    Attributes:
        rank: Which this is, from 0; the first one writes.
        size: How many there are.
    """

    def __init__(self) -> None:
        """Meets the others, if torchrun started more than one."""
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        if self.size > 1:
            dist.init_process_group("gloo")

    @property
    def writes(self) -> bool:
        """Whether this process writes what the run leaves behind."""
        return self.rank == 0

    def average(self, weights: list[nn.Parameter]) -> None:
        """Makes every gradient the mean of all processes' gradients."""
        if self.size == 1:
            return
        found = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        joined = torch.cat([grad.flatten() for grad in found])
        dist.all_reduce(joined)
        parts = joined.div_(self.size).split([w.numel() for w in weights])
        for weight, part in zip(weights, parts, strict=True):
            weight.grad = part.view_as(weight)

    def total(self, *numbers: float) -> list[float]:
        """Adds up what all processes have of each number; every one gets the same."""
        if self.size == 1:
            return list(numbers)
        shared = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(shared)
        return [float(number) for number in shared]

    def wait(self) -> None:
        """Waits until all are here."""
        if self.size > 1:
            dist.barrier()

    def part(self) -> None:
        """Leaves the others."""
        if self.size > 1:
            dist.destroy_process_group()
