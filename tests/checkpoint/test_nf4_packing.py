"""NF4 on CPU: bit for bit what bitsandbytes itself makes of a weight."""

from __future__ import annotations

import pytest
import torch

from aquila2_runtime.checkpoint.packer import PACKERS
from aquila2_runtime.checkpoint.prequantized import STATE

bnb = pytest.importorskip("bitsandbytes").functional


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "shape",
    [(64, 64), (1, 64), (96, 192), (3, 21), (5, 100), (640, 1024), (257, 1024), (1030, 688)],
)
def test_codes_and_scales_are_those_of_bitsandbytes(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(sum(shape))
    weight = torch.randn(shape, generator=generator)
    weight[0, : shape[1] // 2] *= 1e-3
    weight = weight.to(dtype)
    check(weight)


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(2, 64),
        torch.full((2, 64), -3.0),
        torch.linspace(-1, 1, 128).view(2, 64),
        torch.tensor([[1e-30, -1e-30] * 32, [65_504.0, -1.0] * 32]),
        torch.tensor([[1e-42] * 64, [0.0] * 63 + [1.0]]),
    ],
)
def test_extreme_blocks_are_too(values: torch.Tensor) -> None:
    check(values)


def test_values_on_the_bounds_between_codes_are_too() -> None:
    code = bnb.get_4bit_type("nf4", device="cpu")
    bounds = (code[:-1] + code[1:]) / 2
    near = torch.cat([bounds, bounds.nextafter(torch.ones(15)), bounds.nextafter(-torch.ones(15))])
    check(torch.cat([near, torch.ones(19)])[None])


def check(weight: torch.Tensor) -> None:
    packed, state = bnb.quantize_4bit(
        weight, blocksize=64, quant_type="nf4", compress_statistics=True
    )
    parts = PACKERS["nf4"].pack("x.weight", weight)
    assert torch.equal(parts["weight"], packed)
    assert torch.equal(parts["weight.absmax"], state.absmax)
    assert torch.equal(parts["weight.nested_absmax"], state.state2.absmax)
    assert torch.equal(parts["weight.nested_quant_map"], state.state2.code)
    assert torch.equal(parts["weight.quant_map"], state.code)
    read = bnb.QuantState.from_dict(
        {
            name.removeprefix("weight."): tensor
            for name, tensor in parts.items()
            if name != "weight"
        },
        torch.device("cpu"),
    )
    assert torch.equal(read.offset, state.offset)
    assert (read.shape, read.dtype, read.blocksize) == (state.shape, state.dtype, state.blocksize)
    assert len(parts[STATE]) == 256
