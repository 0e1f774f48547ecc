"""4-bit projections joined by rows multiply as they did apart, with or without a 16-bit copy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from aquila2_runtime.engine.joined_nf4 import COPY_FROM, join_nf4
from aquila2_runtime.engine.packed_nf4 import nf4_scales
from tests.engine.kernels import DEVICE, relative

bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")


def packed_linear(outputs: int, inputs: int, seed: int, *, nested: bool) -> torch.nn.Module:
    module = bnb.nn.Linear4bit(
        inputs, outputs, bias=False, compute_dtype=torch.float32, quant_type="nf4",
        compress_statistics=nested,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator) * inputs**-0.5 * (seed + 1)
    module.weight = bnb.nn.Params4bit(
        weight, requires_grad=False, quant_type="nf4", compress_statistics=nested
    )
    return module.to(DEVICE)


@pytest.mark.parametrize("nested", [False, True])
def test_joined_rows_unpack_to_exactly_the_parts(nested: bool) -> None:
    """Joining moves bytes and scales; no weight changes by a bit."""
    parts = [packed_linear(rows, 128, seed, nested=nested) for seed, rows in ((0, 96), (1, 32))]
    joined = join_nf4(parts, copy=True)
    assert joined is not None
    assert joined._copy is not None
    right = torch.cat(
        [bnb.functional.dequantize_4bit(part.weight, part.weight.quant_state) for part in parts]
    )
    assert torch.equal(joined._copy, right)


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("rows", [1, COPY_FROM - 1, COPY_FROM, 40])
def test_products_equal_those_of_the_parts(rows: int, copy: bool) -> None:
    parts = [packed_linear(64, 192, seed, nested=True) for seed in range(3)]
    states = torch.randn(rows, 192, generator=torch.Generator().manual_seed(9)).to(DEVICE)
    weights = [bnb.functional.dequantize_4bit(p.weight, p.weight.quant_state) for p in parts]
    right = torch.cat([F.linear(states, weight.float()) for weight in weights], dim=-1)
    joined = join_nf4(parts, copy=copy)
    assert joined is not None
    assert relative(joined(states), right) < 1e-5


def test_a_copy_has_the_type_that_is_computed_in() -> None:
    """Weights packed from fp32, multiplied in bfloat16."""
    part = packed_linear(64, 128, 0, nested=True)
    part.compute_dtype = torch.bfloat16
    joined = join_nf4([part], copy=True)
    assert joined is not None
    states = torch.randn(COPY_FROM, 128, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    assert joined(states.bfloat16()).dtype == torch.bfloat16


def test_scales_come_out_of_their_own_quantization() -> None:
    part = packed_linear(64, 128, 0, nested=True)
    state = part.weight.quant_state
    scales = nf4_scales(bnb.functional, state)
    assert scales.dtype == torch.float32
    assert scales.shape == (64 * 128 // 64,)
    plain = packed_linear(64, 128, 0, nested=False).weight.quant_state.absmax
    assert relative(scales, plain) < 0.02


def test_other_modules_are_left_alone() -> None:
    plain = torch.nn.Linear(64, 64, bias=False)
    assert join_nf4([plain, packed_linear(64, 64, 0, nested=True)], copy=False) is None
    narrow = packed_linear(64, 128, 0, nested=True)
    assert join_nf4([narrow, packed_linear(64, 64, 0, nested=True)], copy=False) is None
