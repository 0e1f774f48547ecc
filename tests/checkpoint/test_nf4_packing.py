"""NF4 on CPU: bit for bit what bitsandbytes itself makes of a weight."""

from __future__ import annotations

import pytest
import torch

from aquila2_runtime.checkpoint.nf4_codes import encode
from aquila2_runtime.checkpoint.packer import PACKERS
from aquila2_runtime.checkpoint.prequantized import STATE
from aquila2_runtime.checkpoint.room import Room

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


def blocks(largest: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Blocks of bfloat16 with every one of some largest numbers, and every one of the others."""
    others = torch.nn.functional.pad(others, (0, -len(others) % 63)).view(-1, 63)
    rows = [torch.cat([top.expand(len(others), 1), others], dim=1) for top in largest]
    found = torch.cat(rows)
    return torch.where(found.abs() <= found[:, :1].abs(), found, 0)


def test_every_bfloat16_number_beside_every_largest_one_gets_its_code() -> None:
    """Of one power of two; the others differ by what is exact."""
    bits = torch.arange(0x3C00, 0x4000, dtype=torch.int16)  # 2**-7 up to 2
    numbers = bits.view(torch.bfloat16)
    check(blocks(numbers[-128:], torch.cat([numbers, -numbers])))


@pytest.mark.parametrize("power", [-133, -127, -126, -122, -121, -120, -60, 60, 125, 126, 127])
def test_bfloat16_numbers_of_every_size_do(power: int) -> None:
    largest = torch.tensor([1.0, 1.4, 1.99], dtype=torch.float64) * 2.0**power
    others = torch.linspace(-2, 2, 630, dtype=torch.float64) * 2.0**power
    some = blocks(largest.bfloat16(), torch.cat([others, others * 0.01, others * 0]).bfloat16())
    check(torch.cat([some, torch.zeros_like(some[:2]), -torch.zeros_like(some[:2])]))


@pytest.mark.parametrize("value", [float("nan"), -float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_number_that_is_not_finite_makes_its_scale_so(dtype: torch.dtype, value: float) -> None:
    weight = torch.ones(4, 64, dtype=dtype)
    weight[2, 5] = value
    scales = torch.empty(4)
    encode(weight, scales, torch.empty(128, dtype=torch.uint8), Room())
    assert torch.isfinite(scales).tolist() == [True, True, False, True]


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
