"""Prompts by torch's own attention: what it is asked on a GPU, seen without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from aquila2_runtime.engine.attention import varlen


@pytest.mark.parametrize(("device", "asked"), [("cuda:0", 6), ("cpu", 2)])
def test_grouped_heads_are_spelled_out_on_a_gpu_alone(
    device: str, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernels take no groups with a mask: without this all scores are made at once."""
    calls: list[tuple[int, int, bool]] = []

    def spy(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **more: Any
    ) -> torch.Tensor:
        calls.append((key.shape[1], value.shape[1], more["enable_gqa"]))
        return query

    monkeypatch.setattr(varlen.F, "scaled_dot_product_attention", spy)
    mode = FakeTensorMode()

    def made(heads: int, tokens: int) -> torch.Tensor:
        empty = torch.empty(1, heads, tokens, 16, device="meta")
        return FakeTensor(mode, empty, torch.device(device))

    varlen.attend_chunk(made(6, 5), made(2, 9), made(2, 9), None)
    assert calls == [(asked, asked, asked != 6)]


def test_a_group_reads_its_own_key_and_value_head() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, heads, tokens, 16, generator=generator)
        for heads, tokens in ((6, 5), (2, 9), (2, 9))
    )
    mask = torch.ones(5, 9, dtype=torch.bool).tril(4)
    found = varlen.attend_chunk(query, key, value, mask)
    for head in range(6):
        own = slice(head // 3, head // 3 + 1)
        right = varlen.attend_chunk(query[:, head : head + 1], key[:, own], value[:, own], mask)
        assert torch.allclose(found[:, head : head + 1], right, atol=1e-6)
