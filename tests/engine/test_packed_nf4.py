"""Joined 4-bit weights on CPU: the parts' own products, bit for bit, and close to exact ones."""

from __future__ import annotations

import pytest
import torch

from aquila2_runtime.engine.linear import take_linear

bnb = pytest.importorskip("bitsandbytes")
functional = pytest.importorskip("bitsandbytes.functional")


def _parent(*, nested: bool, rows: tuple[int, ...], columns: int = 128) -> torch.nn.Module:
    """A module with 4-bit projections, quantized on CPU as loading does."""
    torch.manual_seed(0)
    parent = torch.nn.Module()
    for number, outputs in enumerate(rows):
        layer = bnb.nn.Linear4bit(
            columns, outputs, bias=False, compute_dtype=torch.bfloat16,
            compress_statistics=nested, quant_type="nf4",
        )  # fmt: skip
        parent.add_module(f"part{number}", layer.to("cpu").eval().requires_grad_(False))
    return parent


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 20])
def test_joined_projections_are_the_parts_side_by_side(nested: bool, rows: int) -> None:
    if not functional.has_avx512bf16():
        pytest.skip("this CPU has no bfloat16 products")
    parent = _parent(nested=nested, rows=(64, 32, 96))
    names = [name for name, _ in parent.named_children()]
    weights = [
        functional.dequantize_4bit(part.weight.data, part.weight.quant_state).float()
        for part in parent.children()
    ]
    states = torch.randn(rows, 128).bfloat16()
    with torch.no_grad():
        joined = take_linear(parent, *names)
        alone = _parent(nested=nested, rows=(64, 32, 96))
        wanted = torch.cat([getattr(alone, name)(states) for name in names], dim=-1)
        found = joined(states)
    assert list(parent.children()) == []
    assert torch.equal(found, wanted)
    exact = states.float() @ torch.cat(weights).T
    error = (found.float() - exact).norm() / exact.norm()
    assert error < 0.005


def test_rows_the_kernel_does_not_take_are_multiplied_nevertheless() -> None:
    parent = _parent(nested=False, rows=(40, 8))
    states = torch.randn(2, 128).bfloat16()
    weights = [
        functional.dequantize_4bit(part.weight.data, part.weight.quant_state).float()
        for part in parent.children()
    ]
    with torch.no_grad():
        found = take_linear(parent, "part0", "part1")(states).float()
    exact = states.float() @ torch.cat(weights).T
    assert (found - exact).norm() / exact.norm() < 0.02
