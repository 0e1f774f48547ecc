"""Tests of steps taken through weights as NF4 would round them."""

from __future__ import annotations

import pytest
import torch

from training.aquila2_demo.rounding import nearest, rounded


def test_it_rounds_as_bitsandbytes_does_but_for_the_scales() -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = torch.randn(688, 256, generator=torch.Generator().manual_seed(0))
    packed, state = functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    assert torch.equal(nearest(weight), functional.dequantize_4bit(packed, state))


def test_a_block_of_zeros_stays_one() -> None:
    assert torch.equal(nearest(torch.zeros(2, 64)), torch.zeros(2, 64))


def test_gradients_are_those_of_the_rounded_weights_and_the_weights_come_back() -> None:
    weight = torch.nn.Parameter(torch.randn(64, 64, generator=torch.Generator().manual_seed(1)))
    before = weight.detach().clone()
    with rounded([weight]):
        assert torch.equal(weight.detach(), nearest(before))
        (weight**2).sum().backward()
    assert torch.equal(weight.detach(), before)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, 2 * nearest(before))


def test_the_weights_come_back_from_a_step_that_fails() -> None:
    weight = torch.nn.Parameter(torch.randn(64, 64))
    before = weight.detach().clone()
    with pytest.raises(RuntimeError), rounded([weight]):
        raise RuntimeError
    assert torch.equal(weight.detach(), before)
