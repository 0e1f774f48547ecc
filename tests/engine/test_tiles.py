"""Prompt rows in tiles: right, and the same bits however a prompt is cut."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from aquila2_runtime.engine.attention import tile_products
from aquila2_runtime.engine.attention import tiles as tiles_module
from aquila2_runtime.engine.attention.tile_products import attend_by_products
from aquila2_runtime.engine.attention.tiles import Tiles, joins

SHAPES = [(6, 6, 64), (4, 2, 32), (8, 1, 128)]
# What is multiplied, and whether by plain products.
WAYS = [(torch.float32, False), (torch.bfloat16, False), (torch.bfloat16, True)]
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


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_are_the_same_however_a_prompt_is_cut(
    shape: tuple[int, int, int], way: tuple[torch.dtype, bool]
) -> None:
    states = _states(*shape, way[0])
    whole = _cut(states, Tiles(*way), [CONTEXT])
    for ends in (
        [1, 2, 65, 127, 128, 700, 1_300, CONTEXT],
        [512, 1_024, CONTEXT],
        [63, 640, 641, 1_408, CONTEXT],
    ):
        assert torch.equal(_cut(states, Tiles(*way), ends), whole)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_are_those_of_attention_in_fp32(
    shape: tuple[int, int, int], way: tuple[torch.dtype, bool]
) -> None:
    dtype = way[0]
    rows, keys, values = states = _states(*shape, dtype)
    found = _cut(states, Tiles(*way), [600, CONTEXT])
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
    whole = _cut(states, Tiles(torch.bfloat16, products=False), [CONTEXT])
    monkeypatch.setattr(tiles_module.F, "scaled_dot_product_attention", spoiled)
    joins.cache_clear()
    try:
        assert not joins(4, 2, 32, torch.get_num_threads())
        calls.clear()
        assert torch.equal(_cut(states, Tiles(torch.bfloat16, products=False), [CONTEXT]), whole)
        assert set(calls) == {64}
    finally:
        joins.cache_clear()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_of_large_scores_are_not_off_by_their_rounding(
    shape: tuple[int, int, int],
) -> None:
    """Scores of 20 and more, rounded to bfloat16, would be off by several percent."""
    heads, kv_heads, dim = shape
    generator = torch.Generator().manual_seed(2)

    def some(count: int, factor: float) -> torch.Tensor:
        return (torch.randn(count, CONTEXT, dim, generator=generator) * factor).bfloat16()

    queries, keys, values = some(heads, 8.0)[:, -64:], some(kv_heads, 1.0), some(kv_heads, 1.0)
    mask = torch.full((64, CONTEXT), float("-inf"), dtype=torch.bfloat16).triu_(CONTEXT - 63)
    right = F.scaled_dot_product_attention(
        *(part[None].float() for part in (queries, keys, values)),
        attn_mask=mask.float(),
        enable_gqa=heads != kv_heads,
    )[0]
    each = heads // kv_heads
    wide = keys.repeat_interleave(each, 0).transpose(1, 2)
    scores = torch.baddbmm(mask.expand(heads, -1, -1), queries, wide, alpha=dim**-0.5)
    rounded = torch.bmm(scores.softmax(-1), values.repeat_interleave(each, 0)).float()
    found = attend_by_products(queries, keys, values, mask).float()
    off, far = (float((x - right).norm() / right.norm()) for x in (found, rounded))
    assert off < 0.004 < 0.01 < far


def test_heads_are_taken_in_parts_where_scores_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(4)
    queries, keys, values = (
        torch.randn(count, size, 64, generator=generator).bfloat16()
        for count, size in ((12, 64), (6, 256), (6, 256))
    )
    mask = torch.zeros(64, 256, dtype=torch.bfloat16)
    whole = attend_by_products(queries, keys, values, mask)
    monkeypatch.setattr(tile_products, "_SCORES", 1)
    assert torch.equal(attend_by_products(queries, keys, values, mask), whole)


def test_what_lies_beyond_the_mask_so_far_is_seen_right() -> None:
    tiles = Tiles(torch.bfloat16)
    fresh = _cut(_states(4, 2, 32, torch.bfloat16), Tiles(torch.bfloat16), [CONTEXT])
    # A later, then an earlier position: the mask has grown between.
    assert torch.equal(_cut(_states(4, 2, 32, torch.bfloat16), tiles, [1_400, CONTEXT]), fresh)
    assert torch.equal(_cut(_states(4, 2, 32, torch.bfloat16), tiles, [64, CONTEXT]), fresh)
