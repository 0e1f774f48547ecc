"""The Triton kernels equal the gathered reference, interpreted on CPU or compiled on a GPU."""

from __future__ import annotations

import dataclasses

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not there; it exists on Linux only")

from aquila2_runtime.engine.attention import paged
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.gathered import GatheredAttention
from aquila2_runtime.engine.attention.paged import PagedAttention
from aquila2_runtime.engine.attention.paged_decode import MAX_SPLITS, choose_splits, paged_decode
from aquila2_runtime.engine.attention.plan import AttentionPlan, PrefillSegment, SharedPrefix
from aquila2_runtime.engine.attention.varlen import Packed, Varlen, sdpa_varlen
from tests.engine.kernels import BLOCK_SIZE, DEVICE, random_cache, relative

# Block and tile borders from both sides, one token, and a few tiles.
LENGTHS = (1, 15, 16, 17, 63, 64, 65, 130)
# Of one product in the type: 24, 11 and 8 bits; int8 is read exactly as the reference reads it.
BOUNDS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2, torch.int8: 1e-5}


def decode_plan(lengths: tuple[int, ...], tables: list[list[int]], extra: int = 0) -> AttentionPlan:
    """Every row's newest token at its place; tables padded with block 0."""
    width = max(len(table) for table in tables) + extra
    padded = torch.tensor([table + [0] * (width - len(table)) for table in tables])
    seen = torch.tensor(lengths)
    last = seen - 1
    slots = padded.gather(1, (last // BLOCK_SIZE)[:, None])[:, 0] * BLOCK_SIZE + last % BLOCK_SIZE
    outside = torch.arange(width * BLOCK_SIZE)[None, :] >= seen[:, None]
    mask = torch.zeros(outside.shape).masked_fill_(outside, float("-inf"))
    return AttentionPlan(
        slots.to(DEVICE), len(lengths), padded.to(DEVICE), mask.to(DEVICE), (),
        seen.to(DEVICE, torch.int32),
    )  # fmt: skip


def own_tables(lengths: tuple[int, ...], seed: int = 0) -> tuple[list[list[int]], int]:
    """Block tables in random order, no block shared; and how many blocks there are."""
    needs = [-(-length // BLOCK_SIZE) for length in lengths]
    order = torch.randperm(sum(needs), generator=torch.Generator().manual_seed(seed)) + 1
    return [part.tolist() for part in order.split(needs)], sum(needs)


def states(rows: int, heads: int, dim: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, heads, dim, generator=generator).to(DEVICE).to(dtype)


@pytest.mark.parametrize("splits", [1, 4])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "dtype"),
    [
        (4, 4, 64, torch.float32),
        (4, 4, 128, torch.bfloat16),
        (2, 2, 128, torch.int8),
        (8, 2, 64, torch.float32),
        (6, 1, 128, torch.float16),
        (8, 1, 64, torch.int8),
    ],
)
def test_decoding_rows_equal_the_gathered_reference(
    heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype, splits: int
) -> None:
    tables, blocks = own_tables(LENGTHS)
    cache = random_cache(blocks=blocks, kv_heads=kv_heads, head_dim=head_dim, dtype=dtype)
    plan = decode_plan(LENGTHS, tables, extra=2)
    kind = torch.float32 if dtype == torch.int8 else dtype
    query = states(len(LENGTHS), heads, head_dim, kind, 1)
    key, value = (states(len(LENGTHS), kv_heads, head_dim, kind, seed) for seed in (2, 3))
    right = GatheredAttention(cache).attend(0, query, key, value, plan)
    assert plan.decode_blocks is not None
    assert plan.decode_lengths is not None
    found = paged_decode(
        query,
        cache.keys[0],
        cache.values[0],
        plan.decode_blocks,
        plan.decode_lengths,
        splits=splits,
        key_scales=cache.key_scales[0] if cache.scaled else None,
        value_scales=cache.value_scales[0] if cache.scaled else None,
    )
    assert found.dtype == query.dtype
    for row in range(len(LENGTHS)):
        assert relative(found[row], right[row]) < BOUNDS[dtype], f"{LENGTHS[row]} tokens"


def test_the_padding_block_is_never_seen() -> None:
    """Whatever lies in block 0 and behind a row's last token, NaN included."""
    tables, blocks = own_tables((5, 40))
    cache = random_cache(blocks=blocks, kv_heads=2, head_dim=64, dtype=torch.float32)
    plan = decode_plan((5, 40), tables, extra=3)
    query = states(2, 2, 64, torch.float32, 1)
    assert plan.decode_blocks is not None
    assert plan.decode_lengths is not None
    clean = paged_decode(
        query, cache.keys[0], cache.values[0], plan.decode_blocks, plan.decode_lengths, splits=2
    )
    for stored in (cache.keys[0], cache.values[0]):
        stored[:, 0] = float("nan")
        stored[:, tables[0][-1], 5:] = float("nan")
        stored[:, tables[1][-1], 8:] = float("nan")
    again = paged_decode(
        query, cache.keys[0], cache.values[0], plan.decode_blocks, plan.decode_lengths, splits=2
    )
    assert torch.equal(clean, again)


def test_a_row_without_tokens_is_zero() -> None:
    cache = random_cache(blocks=2, kv_heads=2, head_dim=64, dtype=torch.float32)
    query = states(2, 2, 64, torch.float32, 1)
    tables = torch.tensor([[1], [2]], device=DEVICE)
    lengths = torch.tensor([0, 3], device=DEVICE)
    for splits in (1, 2):
        mixed = paged_decode(query, cache.keys[0], cache.values[0], tables, lengths, splits=splits)
        assert not mixed[0].any()
        assert mixed[1].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_storing_equals_the_reference_bit_for_bit(dtype: torch.dtype) -> None:
    kind = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
    fused = states(5, 6, 64, kind, 1)
    fused[2] = 0.0
    key, value = fused[:, :3], fused[:, 3:]  # rows of a wider tensor, as projections leave them
    slots = torch.tensor([17, 3, 40, 16, 31], device=DEVICE)
    caches = [random_cache(blocks=2, kv_heads=3, head_dim=64, dtype=dtype) for _ in range(2)]
    attention = PagedAttention(caches[0], sdpa_varlen)
    tables = torch.ones(5, 1, dtype=torch.int64, device=DEVICE)
    lengths = torch.ones(5, dtype=torch.int32, device=DEVICE)
    attention.attend(0, states(5, 3, 64, kind, 2), key, value,
                     AttentionPlan(slots, 5, tables, None, (), lengths))  # fmt: skip
    caches[1].store(0, slots, key, value)
    for name in ("keys", "values", "key_scales", "value_scales"):
        for found, right in zip(getattr(caches[0], name), getattr(caches[1], name), strict=True):
            assert torch.equal(found, right), name


def mixed_plan(counts: tuple[int, ...], contexts: tuple[int, ...]) -> tuple[AttentionPlan, int]:
    """Two decoding rows, then prompt chunks; and how many blocks there are."""
    lengths = (33, 16)
    tables, blocks = own_tables((*lengths, *contexts))
    decodes = decode_plan(lengths, tables[:2])
    segments, slots, row = [], [decodes.slots], 2
    for count, context, table in zip(counts, contexts, tables[2:], strict=True):
        own = torch.tensor(table, device=DEVICE)
        segments.append(PrefillSegment(row, count, context, own))
        at = torch.arange(context - count, context, device=DEVICE)
        slots.append(own[at // BLOCK_SIZE] * BLOCK_SIZE + at % BLOCK_SIZE)
        row += count
    plan = AttentionPlan(
        torch.cat(slots), 2, decodes.decode_blocks, decodes.decode_mask, tuple(segments),
        decodes.decode_lengths,
    )  # fmt: skip
    return plan, blocks


def both_ways(
    plan: AttentionPlan, blocks: int, dtype: torch.dtype, varlen: Varlen
) -> tuple[torch.Tensor, torch.Tensor]:
    """A step by the paged way and by the reference."""
    rows = plan.slots.shape[0]
    query = states(rows, 4, 64, torch.float32, 1)
    key, value = (states(rows, 2, 64, torch.float32, seed) for seed in (2, 3))
    caches = [random_cache(blocks=blocks, kv_heads=2, head_dim=64, dtype=dtype) for _ in range(2)]
    found = PagedAttention(caches[0], varlen).attend(0, query, key, value, plan)
    return found, GatheredAttention(caches[1]).attend(0, query, key, value, plan)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
@pytest.mark.parametrize("before", [0, 21])
def test_a_mixed_step_equals_the_gathered_reference(before: int, dtype: torch.dtype) -> None:
    """Without and with earlier context."""
    plan, blocks = mixed_plan((19, 7), (19 + before, 7 + before))
    found, right = both_ways(plan, blocks, dtype, sdpa_varlen)
    assert relative(found, right) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_chunks_copy_no_more_context_at_once_than_the_longest_has(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paged, "GATHERED_BYTES", 1)
    counts, contexts = (19, 7, 5, 9, 11, 3), (40, 70, 5, 30, 60, 70)
    plan, blocks = mixed_plan(counts, contexts)
    seen: list[tuple[int, ...]] = []

    def counted(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packed: Packed
    ) -> torch.Tensor:
        assert len(key) == len(value) == sum(packed.contexts)
        seen.append(packed.contexts)
        return sdpa_varlen(query, key, value, packed)

    found, right = both_ways(plan, blocks, dtype, counted)
    assert relative(found, right) < 1e-5
    assert sum(seen, ()) == contexts
    assert seen == [(40,), (70,), (5, 30), (60,), (70,)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_a_shared_prefix_read_once_gives_what_reading_it_apart_gives(dtype: torch.dtype) -> None:
    """Three of four rows lead with the same two blocks; one and several splits of the rest."""
    tables = [[1, 2, 3], [1, 2, 4, 5, 6, 7, 8], [1, 2, 9], [10]]
    lengths = (40, 7 * BLOCK_SIZE, 33, 9)
    cache = random_cache(blocks=10, kv_heads=2, head_dim=64, dtype=dtype)
    query = states(4, 4, 64, torch.float32, 1)
    apart = decode_plan(lengths, tables)
    key, value = (states(4, 2, 64, torch.float32, seed) for seed in (2, 3))
    right = PagedAttention(cache, sdpa_varlen).attend(0, query, key, value, apart)
    rest = decode_plan(
        tuple(length - 32 * (row < 3) for row, length in enumerate(lengths)),
        [table[2 * (row < 3) :] for row, table in enumerate(tables)],
    )
    members = torch.tensor([0, 1, 2], device=DEVICE)
    blocks = torch.tensor([1, 2], device=DEVICE)
    for first in (1, None):
        shared = (SharedPrefix(members, blocks, first),)
        plan = dataclasses.replace(rest, slots=apart.slots, shared=shared)
        found = PagedAttention(cache, sdpa_varlen).attend(0, query, key, value, plan)
        assert relative(found, right) < 1e-5


def test_splits_fill_the_device_and_no_more() -> None:
    """One stream is cut finely, a full batch not at all; never finer than the context has tiles."""
    assert choose_splits(1, 32, 16_384, 132) == 16
    assert choose_splits(1, 8, 16_384, 132) == MAX_SPLITS
    assert choose_splits(32, 32, 16_384, 132) == 1
    assert choose_splits(1, 8, 100, 132) == 2
    assert choose_splits(1, 8, 16, 132) == 1


def test_eight_bits_take_half_and_round_to_half_a_step() -> None:
    """Within half of 1/127 of each head's largest, and 0.52 of the bytes of 16 bits."""
    key, value = (states(32, 2, 128, torch.float32, seed) for seed in (1, 2))
    key[0] *= 1e-6
    key[1] *= 1e4
    cache = PagedKVCache(
        num_layers=1, num_blocks=2, block_size=BLOCK_SIZE, num_kv_heads=2, head_dim=128,
        dtype=torch.int8, device=DEVICE,
    )  # fmt: skip
    slots = torch.arange(BLOCK_SIZE, 3 * BLOCK_SIZE, device=DEVICE)
    cache.store(0, slots, key, value)
    blocks = torch.tensor([1, 2], device=DEVICE)
    for found, right in zip(cache.gather(0, blocks), (key, value), strict=True):
        back = found.flatten(1, 2).transpose(0, 1)
        step = right.abs().amax(dim=-1, keepdim=True) / 127
        assert ((back - right).abs() <= 0.5001 * step).all()
    held = sum(
        part.numel() * part.element_size()
        for parts in (cache.keys, cache.values, cache.key_scales, cache.value_scales)
        for part in parts
    )
    assert held / (2 * 3 * BLOCK_SIZE * 2 * 128 * 2) < 0.52
