"""Prompt rows in tiles: right, and the same bits however a prompt is cut."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from aquila2_runtime.engine.attention import tiles as tiles_module
from aquila2_runtime.engine.attention.tiles import Tiles, joins

SHAPES = [(6, 6, 64), (4, 2, 32), (8, 1, 128)]
TYPES = [torch.float32, torch.bfloat16]
CONTEXT = 1_417


def _states(heads: int, kv_heads: int, dim: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(CONTEXT, heads, dim, generator=generator)
    room = Tiles(dtype).padded(CONTEXT)
    kept = [torch.randn(kv_heads, room, dim, generator=generator).to(dtype) for _ in range(2)]
    for states in kept:
        states[:, CONTEXT:] = 0
    return [rows, *kept]


def _cut(states: list[torch.Tensor], tiles: Tiles, ends: list[int]) -> torch.Tensor:
    rows, keys, values = states
    found, start = [], 0
    for end in ends:
        room = tiles.padded(end)
        own = [part[:, :room].clone() for part in (keys, values)]
        for part in own:
            part[:, end:] = 0
        found.append(tiles.attend(rows[start:end], own[0], own[1], end))
        start = end
    return torch.cat(found)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_are_the_same_however_a_prompt_is_cut(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    states = _states(*shape, dtype)
    whole = _cut(states, Tiles(dtype), [CONTEXT])
    for ends in (
        [1, 2, 65, 127, 128, 700, 1_300, CONTEXT],
        [512, 1_024, CONTEXT],
        [63, 640, 641, 1_408, CONTEXT],
    ):
        assert torch.equal(_cut(states, Tiles(dtype), ends), whole)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_are_those_of_attention_in_fp32(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    rows, keys, values = states = _states(*shape, dtype)
    found = _cut(states, Tiles(dtype), [600, CONTEXT])
    right = F.scaled_dot_product_attention(
        rows.to(dtype).float().transpose(0, 1)[None],
        keys[None, :, :CONTEXT].float(),
        values[None, :, :CONTEXT].float(),
        is_causal=True,
        enable_gqa=True,
    )[0].transpose(0, 1)
    assert found.dtype == dtype
    near = {"rtol": 2e-2, "atol": 1e-2} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(found.float(), right, **near)


def test_tiles_go_one_by_one_where_they_would_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    own = F.scaled_dot_product_attention

    def spoiled(query: torch.Tensor, *others: torch.Tensor, **named: object) -> torch.Tensor:
        """A kernel that adds up in another way when it is given more than one tile."""
        calls.append(query.shape[2])
        mixed: torch.Tensor = own(query, *others, **named)  # type: ignore[arg-type]
        return mixed * (1 + 2**-6) if query.shape[2] > 64 else mixed

    states = _states(4, 2, 32, torch.bfloat16)
    whole = _cut(states, Tiles(torch.bfloat16), [CONTEXT])
    monkeypatch.setattr(tiles_module.F, "scaled_dot_product_attention", spoiled)
    joins.cache_clear()
    try:
        assert not joins(4, 2, 32, torch.get_num_threads())
        calls.clear()
        assert torch.equal(_cut(states, Tiles(torch.bfloat16), [CONTEXT]), whole)
        assert set(calls) == {64}
    finally:
        joins.cache_clear()


def test_what_lies_beyond_the_mask_so_far_is_seen_right() -> None:
    tiles = Tiles(torch.bfloat16)
    fresh = _cut(_states(4, 2, 32, torch.bfloat16), Tiles(torch.bfloat16), [CONTEXT])
    # A later, then an earlier position: the mask has grown between.
    assert torch.equal(_cut(_states(4, 2, 32, torch.bfloat16), tiles, [1_400, CONTEXT]), fresh)
    assert torch.equal(_cut(_states(4, 2, 32, torch.bfloat16), tiles, [64, CONTEXT]), fresh)
