"""The fused operations between matrix products equal torch's."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not there; it exists on Linux only")

from aquila2_runtime.engine.fused_pointwise import FusedPointwise
from aquila2_runtime.engine.pointwise import Pointwise
from tests.engine.kernels import DEVICE, relative

# One rounding of the last bit here and there where exp or rsqrt differ. The interpreter cuts off
# what bfloat16 cannot hold, where a GPU rounds.
BOUNDS = {
    torch.float32: 1e-6,
    torch.float16: 5e-4,
    torch.bfloat16: 2e-3 if DEVICE.type == "cuda" else 1e-2,
}
TYPES = tuple(BOUNDS)


def numbers(*shape: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * 3).to(DEVICE).to(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [64, 200])
def test_the_norms_equal_torchs(width: int, dtype: torch.dtype) -> None:
    hidden, delta = (numbers(5, width, dtype=dtype, seed=seed) for seed in (1, 2))
    weight = numbers(width, dtype=dtype, seed=3)
    fused, plain = FusedPointwise(1e-5, dtype, DEVICE), Pointwise(1e-5, dtype, DEVICE)
    assert relative(fused.norm(hidden, weight), plain.norm(hidden, weight)) < BOUNDS[dtype]
    found, right = (
        fused.add_norm(hidden, delta, weight),
        plain.add_norm(hidden.clone(), delta, weight),
    )
    assert relative(found[0], right[0]) < BOUNDS[dtype]
    assert relative(found[1], right[1]) < BOUNDS[dtype]


@pytest.mark.parametrize("dtype", TYPES)
def test_the_rotation_equals_torchs_and_leaves_values_alone(dtype: torch.dtype) -> None:
    qkv = numbers(3, 6 + 2 + 2, 64, dtype=dtype, seed=1)
    angles = numbers(3, 1, 32, dtype=torch.float32, seed=2)
    given = (qkv, angles.cos(), angles.sin(), 6)
    found = FusedPointwise(1e-5, dtype, DEVICE).rotate(*given)
    right = Pointwise(1e-5, dtype, DEVICE).rotate(qkv.clone(), *given[1:])
    for one, other in zip(found[:2], right[:2], strict=True):
        assert one.shape == other.shape
        assert relative(one, other) < BOUNDS[dtype]
    assert torch.equal(found[2].to(right[2].dtype), right[2])


@pytest.mark.parametrize("dtype", TYPES)
def test_the_gate_equals_torchs(dtype: torch.dtype) -> None:
    gate_up = numbers(2, 2 * 1_500, dtype=dtype, seed=1)
    found = FusedPointwise(1e-5, dtype, DEVICE).gate(gate_up)
    right = Pointwise(1e-5, dtype, DEVICE).gate(gate_up)
    assert relative(found, right) < BOUNDS[dtype]
