"""SmallProjection: BLAS's products of small weights, a row the same bits in any company."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from aquila2_runtime.engine import small_linear
from aquila2_runtime.engine.linear import PackedProjection, linear, packing_of
from aquila2_runtime.engine.small_linear import SmallProjection, small_projection

SHAPES = [(192, 64), (64, 64), (512, 64), (64, 256), (100, 33)]


def _numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
@pytest.mark.parametrize("rows", [1, 2, 33])
def test_the_product_is_the_plain_one(outputs: int, inputs: int, rows: int) -> None:
    weight, states = _numbers(outputs, inputs), _numbers(rows, inputs, seed=1)
    found = SmallProjection(weight)(states)
    torch.testing.assert_close(found, F.linear(states, weight), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_a_row_is_the_same_bits_in_any_company(outputs: int, inputs: int) -> None:
    project = linear(_numbers(outputs, inputs))
    states = _numbers(300, inputs, seed=1)
    together = project(states)
    for first, count in [(0, 1), (299, 1), (3, 2), (7, 31), (40, 64), (1, 200), (250, 50)]:
        some = slice(first, first + count)
        assert torch.equal(project(states[some]), together[some]), (first, count)


def test_only_small_fp32_weights_on_cpu_are_taken() -> None:
    assert small_projection(_numbers(256, 257)) is None
    assert small_projection(_numbers(8, 8).bfloat16()) is None
    assert small_projection(torch.empty(8, 8, device="meta")) is None


@pytest.mark.skipif(packing_of(torch.float32) is not None, reason="this torch packs nothing")
def test_where_blas_does_not_keep_rows_apart_weights_are_packed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def uneven(states: torch.Tensor, weight: torch.Tensor, least: int) -> torch.Tensor:
        # Among more than forty rows another order of additions, as kernels for many rows have it.
        if states.shape[0] <= 40:
            return torch.mm(states, weight)
        return torch.mm(states.flip(1), weight.flip(0))

    monkeypatch.setattr(small_linear, "_product", uneven)
    small_linear.rows_kept_apart.cache_clear()
    try:
        assert isinstance(linear(_numbers(64, 64)), PackedProjection)
    finally:
        small_linear.rows_kept_apart.cache_clear()
