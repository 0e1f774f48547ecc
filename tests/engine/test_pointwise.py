"""Pointwise: a row is the same number whoever else is in the step, on any number of threads."""

from __future__ import annotations

import pytest
import torch

from aquila2_runtime.engine.pointwise import Pointwise

CPU = torch.device("cpu")


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("width", [48, 1_000, 4_096, 40_000])
def test_the_gate_of_a_row_is_the_same_alone_and_among_others(width: int) -> None:
    pointwise = Pointwise(1e-5, torch.float32, CPU)
    states = torch.randn(77, 2 * width, generator=torch.Generator().manual_seed(0))
    together = pointwise.gate(states)
    for first, last in ((0, 1), (76, 77), (3, 20), (10, 20), (5, 70)):
        assert torch.equal(pointwise.gate(states[first:last]), together[first:last])
    torch.testing.assert_close(
        together, states[:, :width].sigmoid() * states[:, :width] * states[:, width:]
    )
