"""Owns what a run computes on and in which numbers; it knows no network and no data."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Machine:
    """What a run computes on.

    Attributes:
        device: "cpu" or "cuda".
        dtype: What the network computes in; its weights are float32.
        cells: Of a batch that goes through the network at once, rows times width at most.
        makers: Processes that make rows. One keeps up with a core that trains.
        fused: Whether torch's compiler joins what lies between products.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.bfloat16
    cells: int = 1024
    makers: int = 1
    fused: bool = False

    @classmethod
    def of(cls, device: str, float32: bool, makers: int | None, eager: bool) -> Machine:
        """Chooses for a device what the command line leaves open.

        On a GPU nothing is compiled: at this size rows are made more slowly than they are read.

        Args:
            device: "cpu" or "cuda".
            float32: Whether to compute in float32, not bfloat16.
            makers: Processes that make rows; None for one on CPU and 14 beside a GPU.
            eager: Whether to do without the compiler on CPU.

        Raises:
            ValueError: There is no such device.
        """
        dtype = torch.float32 if float32 else torch.bfloat16
        if device == "cpu":
            return cls(device, dtype, 1024, makers or 1, not eager)
        if not torch.cuda.is_available():
            raise ValueError(f"device={device!r}: this torch sees no GPU; use --device cpu")
        return cls(device, dtype, 65536, makers or 14, False)
