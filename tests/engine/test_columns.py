"""Decoding rows over keys in columns: what attention is, and the same bits in any company."""

from __future__ import annotations

import pytest
import torch

from aquila2_runtime.engine.attention import columns as columns_module
from aquila2_runtime.engine.attention.cache import COLUMNS, PagedKVCache
from aquila2_runtime.engine.attention.columns import ColumnGathering, ColumnListing
from tests.engine.caches import filled_cache

SIZE, DIM, HEADS, KV_HEADS = 16, 32, 4, 2
# In line from an even and from an odd block; strewn; a later block in the same columns as the one
# before it; and neighbours that are not in one.
TABLES = [
    [4, 5, 6, 7, 8, 9, 10, 11],
    [13, 14, 15, 16, 17, 18, 19, 20],
    [60, 30, 58, 32, 56, 34, 54, 36],
    [23, 22, 25, 24, 27, 26, 29, 28],
    [41, 42, 1, 2, 44, 45, 47, 48],
]


def _cache() -> PagedKVCache:
    return filled_cache(kv_heads=KV_HEADS, dim=DIM, size=SIZE, columns=True)


def _step(
    tables: list[list[int]], counts: list[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Blocks, lengths and the rows' own places, as a plan has them."""
    used = [-(-count // SIZE) for count in counts]
    blocks = [
        (table[:n] + [0] * max(used))[: max(used)] for table, n in zip(tables, used, strict=True)
    ]
    slots = [
        table[(count - 1) // SIZE] * SIZE + (count - 1) % SIZE
        for table, count in zip(tables, counts, strict=True)
    ]
    return torch.tensor(blocks), torch.tensor(counts, dtype=torch.int32), torch.tensor(slots)


def _query(rows: int) -> torch.Tensor:
    return torch.randn(rows, HEADS, DIM, generator=torch.Generator().manual_seed(3))


def _attend(
    cache: PagedKVCache, tables: list[list[int]], counts: list[int], query: torch.Tensor
) -> torch.Tensor:
    attention = ColumnGathering(cache)
    listing = attention.list_rows(HEADS, *_step(tables, counts)[:2])
    found, _ = attention.attend(0, query, listing)
    return found


def _right(
    cache: PagedKVCache, tables: list[list[int]], counts: list[int], query: torch.Tensor
) -> torch.Tensor:
    """Attention in fp64 over what is stored."""
    found = []
    for row, (table, count) in enumerate(zip(tables, counts, strict=True)):
        places = [table[at // SIZE] * SIZE + at % SIZE for at in range(count)]
        keys, values = (
            lines[0][:, places].double().repeat_interleave(HEADS // KV_HEADS, 0)
            for lines in (cache.key_lines, cache.value_lines)
        )
        scores = (keys @ query[row].double()[:, :, None])[..., 0] * DIM**-0.5
        found.append((scores.softmax(-1)[:, None] @ values)[:, 0])
    return torch.stack(found).float()


@pytest.mark.parametrize(
    "counts", [[1, 1, 1, 1, 1], [16, 17, 31, 32, 33], [100, 3, 64, 70, 128], [47, 48, 49, 113, 2]]
)
def test_it_is_attention_over_what_is_stored(counts: list[int]) -> None:
    cache, query = _cache(), _query(len(TABLES))
    found, right = (work(cache, TABLES, counts, query) for work in (_attend, _right))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, right, rtol=0.01, atol=0.01)


def test_a_row_is_the_same_alone_in_company_and_wherever_its_blocks_lie() -> None:
    counts = [100, 3, 64, 70, 128]
    cache, query = _cache(), _query(len(TABLES))
    among = _attend(cache, TABLES, counts, query)
    for row, (table, count) in enumerate(zip(TABLES, counts, strict=True)):
        own = query[row : row + 1]
        assert torch.equal(_attend(cache, [table], [count], own)[0], among[row])
        # The same numbers in other blocks, in an order that shares no columns.
        other = _cache()
        elsewhere = [63, 61, 59, 57, 55, 53, 51, 49]
        for old, new in zip(table, elsewhere, strict=True):
            states = [part[:, old].transpose(0, 1) for part in (cache.keys[0], cache.values[0])]
            other.store(0, new * SIZE + torch.arange(SIZE), *states)
        assert torch.equal(_attend(other, [elsewhere], [count], own)[0], among[row])


def _lists_the_same(one: ColumnListing, other: ColumnListing) -> None:
    """Whatever room they keep, rows see the same places in the same order."""
    assert torch.equal(one.places[~one.hidden], other.places[~other.hidden])
    assert torch.equal(one.lengths, other.lengths)
    assert torch.equal(one.last, other.last)
    assert torch.equal(one.places[one.at], other.places[other.at])
    for listing in (one, other):
        seen = (~listing.hidden).int()
        counted = [int(part.sum()) for part in seen.split(listing.starts.diff().tolist())]
        assert counted == listing.lengths.repeat_interleave(HEADS).tolist()


def test_grown_token_by_token_it_is_what_is_made_anew() -> None:
    cache = _cache()
    attention, query = ColumnGathering(cache), _query(len(TABLES))
    counts, grown = [1, 30, 17, 15, 40], 0
    listing = attention.list_rows(HEADS, *_step(TABLES, counts)[:2])
    for _ in range(80):
        counts = [count + 1 for count in counts]
        blocks, lengths, slots = _step(TABLES, counts)
        anew = attention.list_rows(HEADS, blocks, lengths)
        following = attention.next_token(listing, blocks, lengths, slots)
        grown += following is not None
        listing = following or anew
        _lists_the_same(listing, anew)
        found, _ = attention.attend(0, query, listing)
        assert torch.equal(found, attention.attend(0, query, anew)[0])
    assert grown > 70


@pytest.mark.parametrize(
    ("tables", "counts"),
    [
        ([[5, 6], [20, 3]], [20, 21]),  # nothing was added
        ([[5, 6], [20, 3]], [21, 23]),  # two tokens
        ([[20, 3], [5, 6]], [22, 21]),  # other rows in their places
        ([[5, 6], [20, 4]], [21, 22]),  # another block in its place
        ([[5, 6]], [21]),  # one has ended
        ([[5, 6], [20, 3], [8, 9]], [21, 22, 23]),  # one has begun
    ],
)
def test_what_is_not_the_next_token_of_the_same_rows_is_listed_anew(
    tables: list[list[int]], counts: list[int]
) -> None:
    attention = ColumnGathering(_cache())
    before = _step([[5, 6], [20, 3]], [20, 21])[:2]
    listing, untouched = (attention.list_rows(HEADS, *before) for _ in range(2))
    assert attention.next_token(listing, *_step(tables, counts)) is None
    for name in ("lines", "places", "hidden", "last", "at"):
        assert torch.equal(getattr(listing, name), getattr(untouched, name)), name


def test_rows_are_the_same_bits_with_more_hidden_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, query = _cache(), _query(1)
    narrow = _attend(cache, TABLES[1:2], [70], query)
    monkeypatch.setattr(columns_module, "_ROOM", COLUMNS)
    assert torch.equal(_attend(cache, TABLES[1:2], [70], query), narrow)


def test_numbers_of_others_in_the_same_columns_do_not_reach_a_row() -> None:
    cache = _cache()
    clean = _attend(cache, [[13, 14]], [19], _query(1))
    own = torch.zeros(65 * SIZE, dtype=torch.bool)
    own[13 * SIZE : 14 * SIZE + 3] = True
    for lines in (cache.key_lines[0], cache.value_lines[0]):
        lines[:, ~own] = float("nan")
    strange = torch.arange(65 * SIZE)[~own]
    cache.columns[0][strange // COLUMNS, :, strange % COLUMNS] = float("nan")
    assert torch.equal(_attend(cache, [[13, 14]], [19], _query(1)), clean)


def test_what_is_stored_is_what_is_read() -> None:
    cache = PagedKVCache(
        num_layers=1, num_blocks=8, block_size=SIZE, num_kv_heads=KV_HEADS, head_dim=DIM,
        dtype=torch.bfloat16, device=torch.device("cpu"), columns=True,
    )  # fmt: skip
    slots = torch.tensor([17, 63, 64, 140])
    key, value = (torch.randn(4, KV_HEADS, DIM) for _ in range(2))
    cache.store(0, slots, key, value)
    for row, place in enumerate(slots.tolist()):
        assert torch.equal(cache.key_lines[0][:, place], key[row].bfloat16())
        column = cache.columns[0][place // COLUMNS, :, place % COLUMNS]
        assert torch.equal(column.view(KV_HEADS, DIM), key[row].half())
    assert int((cache.columns[0] != 0).sum()) == key.numel()
    # Two bytes of a value, two and two of a key.
    assert cache.token_bytes == KV_HEADS * DIM * 6 + _padding(cache)


def _padding(cache: PagedKVCache) -> int:
    """Columns are whole, so that the last may be longer than the blocks are."""
    places = cache.keys[0].shape[1] * SIZE
    extra = cache.columns[0].shape[0] * COLUMNS - places
    return (KV_HEADS * DIM * (6 * places + 2 * extra)) // places - KV_HEADS * DIM * 6
