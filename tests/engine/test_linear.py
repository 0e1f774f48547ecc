"""Projections: packed weights give plain weights' products, whoever else is in the batch."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F

from aquila2_runtime.engine.linear import linear, pack, packing_of, take_linear

NEEDS_BF16 = pytest.mark.skipif(
    packing_of(torch.bfloat16) is not None, reason="this CPU has no bfloat16 products"
)
TYPES = [torch.float32, pytest.param(torch.bfloat16, marks=NEEDS_BF16)]


def _weight(outputs: int, inputs: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(outputs, inputs, generator=generator).mul_(inputs**-0.5).to(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("outputs", "inputs"), [(24, 40), (576, 192), (100, 1_500)])
@pytest.mark.parametrize("rows", [1, 3, 33])
def test_a_packed_product_is_the_plain_one(
    dtype: torch.dtype, outputs: int, inputs: int, rows: int
) -> None:
    weight, states = _weight(outputs, inputs, dtype), _weight(rows, inputs, dtype, seed=1)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(
        linear(weight)(states), F.linear(states, weight), rtol=tolerance, atol=tolerance
    )


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("outputs", "inputs"), [(64, 64), (576, 192), (192, 2_048)])
def test_a_row_is_the_same_alone_and_among_others(
    dtype: torch.dtype, outputs: int, inputs: int
) -> None:
    project = linear(_weight(outputs, inputs, dtype))
    states = _weight(64, inputs, dtype, seed=1)
    together = project(states)
    for rows in (1, 2, 3, 5, 7, 8, 10, 31):
        assert torch.equal(project(states[:rows]), together[:rows]), f"{rows} rows"


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.usefixtures("threads")
def test_a_plain_row_is_the_same_alone_and_among_others() -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        project = linear(_weight(96, 64, torch.float32))
    states = _weight(64, 64, torch.float32, seed=1)
    together = project(states)
    for rows in range(1, 13):
        assert torch.equal(project(states[:rows]), together[:rows]), f"{rows} rows"


def test_weights_of_any_size_are_packed() -> None:
    assert pack(_weight(512, 256, torch.float32)) is not None
    assert pack(_weight(3, 7, torch.float32)) is not None


def test_types_without_packed_products_stay_plain_and_say_why() -> None:
    weight = _weight(512, 256, torch.float16)
    assert "float16" in str(packing_of(torch.float16))
    assert pack(weight) is None
    states = _weight(2, 256, torch.float16, seed=1)
    wanted = F.linear(states.float(), weight.float())
    torch.testing.assert_close(linear(weight)(states).float(), wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_without_onednn_weights_stay_plain() -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        assert packing_of(torch.float32) is not None
        assert pack(_weight(512, 256, torch.float32)) is None


def test_fused_projections_leave_their_module_and_join_their_outputs() -> None:
    parent = torch.nn.Module()
    parent.first = torch.nn.Linear(96, 512, bias=False)
    parent.second = torch.nn.Linear(96, 256, bias=False)
    states = torch.randn(3, 96)
    with torch.no_grad():
        wanted = torch.cat([parent.first(states), parent.second(states)], dim=-1)
        fused = take_linear(parent, "first", "second")
        torch.testing.assert_close(fused(states), wanted)
    assert list(parent.children()) == []


def test_other_modules_are_called_as_they_are() -> None:
    parent = torch.nn.Module()
    parent.first = torch.nn.Linear(8, 8, bias=False)
    parent.odd = torch.nn.Sequential(torch.nn.Linear(8, 8, bias=False), torch.nn.ReLU())
    states = torch.randn(3, 8)
    with torch.no_grad():
        wanted = torch.cat([parent.first(states), parent.odd(states)], dim=-1)
        joined = take_linear(parent, "first", "odd")
        assert isinstance(joined, functools.partial)
        torch.testing.assert_close(joined(states), wanted)
