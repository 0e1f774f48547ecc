"""Int8 on CPU: bit for bit what bitsandbytes itself makes of a weight."""

from __future__ import annotations

import pytest
import torch

from aquila2_runtime.checkpoint.packer import PACKERS
from aquila2_runtime.errors import WeightsError

bnb = pytest.importorskip("bitsandbytes").functional


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(64, 64), (1, 21), (600, 1024), (3, 140_000)])
def test_numbers_and_scales_are_those_of_bitsandbytes(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    weight[0, : shape[1] // 2] *= 1e-3
    check(weight.to(dtype))


def test_extreme_rows_are_too() -> None:
    half = torch.arange(-64, 64) + 0.5
    check(torch.stack([torch.zeros(128), torch.full((128,), 1e-6), half, half.flip(0) * 500]))


@pytest.mark.parametrize("top", [2.0**-30, 2.0**-17, 2.0**-9, 2.0**-8, 2.0**-7, 1.0, 65_280.0])
def test_bfloat16_rows_of_every_size_are_packed_as_from_float16(top: float) -> None:
    """Down to numbers that float16 rounds or takes for zero."""
    bits = torch.arange(0, 0x7F80, 3, dtype=torch.int16)
    row = bits.view(torch.bfloat16)
    row = torch.where(row <= top, row, 0)
    row[0] = top
    check(torch.stack([row, -row]))


def check(weight: torch.Tensor) -> None:
    packed, scales, _ = bnb.int8_vectorwise_quant(weight.to(torch.float16).contiguous())
    parts = PACKERS["int8"].pack("x.weight", weight)
    assert torch.equal(parts["weight"], packed)
    assert torch.equal(parts["SCB"], scales.reshape(-1))
    assert parts["weight_format"].tolist() == 0


def test_a_number_that_float16_cannot_hold_is_refused_by_name() -> None:
    weight = torch.ones(4, 64, dtype=torch.bfloat16)
    weight[2, 3] = 1e5
    with pytest.raises(WeightsError, match="float16") as caught:
        PACKERS["int8"].pack("model.layers.0.mlp.up_proj.weight", weight)
    assert caught.value.parameter == "model.layers.0.mlp.up_proj.weight"
    assert "nf4" in (caught.value.hint or "")
    assert PACKERS["nf4"].pack("x.weight", weight)["weight"].shape == (128, 1)
