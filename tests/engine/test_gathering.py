"""Gathering: a listing that grows from step to step is the one that would be made anew."""

from __future__ import annotations

import pytest
import torch

from aquila2_runtime.engine.attention import gathering
from aquila2_runtime.engine.attention.gathering import Gathering, Listing
from tests.engine.caches import filled_cache

SIZE, DIM, HEADS, KV_HEADS = 16, 32, 4, 2

pytestmark = pytest.mark.skipif(
    gathering.obstacle() is not None, reason="this torch has no sampled products"
)


def _gathering() -> Gathering:
    return Gathering(filled_cache(kv_heads=KV_HEADS, dim=DIM, size=SIZE))


def _step(
    tables: list[list[int]], counts: list[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Blocks, lengths and the rows' own places, as a plan has them."""
    width = max(-(-count // SIZE) for count in counts)
    blocks = [
        (table[: -(-count // SIZE)] + [0] * width)[:width]
        for table, count in zip(tables, counts, strict=True)
    ]
    slots = [
        table[(count - 1) // SIZE] * SIZE + (count - 1) % SIZE
        for table, count in zip(tables, counts, strict=True)
    ]
    return torch.tensor(blocks), torch.tensor(counts, dtype=torch.int32), torch.tensor(slots)


def _same(one: Listing, other: Listing) -> None:
    for name in ("blocks", "lengths", "ends", "starts", "places", "mask"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert torch.equal(one.products.col_indices(), other.products.col_indices())
    assert [group.shape for group in one.groups] == [group.shape for group in other.groups]


def _lists_the_same(one: Listing, other: Listing) -> None:
    """Whatever room they keep, they show the same places, and hide all the others."""
    for name in ("blocks", "lengths"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for listing in (one, other):
        shown = torch.zeros(len(listing.places), dtype=torch.bool)
        for start, end in zip(listing.starts.tolist(), listing.ends.tolist(), strict=False):
            shown[start:end] = True
        assert torch.equal(listing.mask == 0, shown)
        assert torch.equal(listing.mask == float("-inf"), ~shown)
        assert torch.equal(listing.products.col_indices(), listing.places)
        assert sum(group.numel() for group in listing.groups) == len(listing.places)
        widths = listing.starts.diff().view(-1, HEADS)[:, 0]
        assert listing.room == int((widths - listing.lengths).min())
    assert torch.equal(one.places[one.mask == 0], other.places[other.mask == 0])


def test_grown_token_by_token_it_is_what_is_made_anew() -> None:
    attention, query = _gathering(), torch.randn(3, HEADS, DIM)
    tables = [[5, 6, 40, 7, 8, 9], [20, 3, 1, 2, 21, 22], [30, 31, 32, 33, 34, 35]]
    counts = [1, 30, 17]
    listing, grown = attention.list_rows(HEADS, *_step(tables, counts)[:2]), 0
    for _ in range(66):
        counts = [count + 1 for count in counts]
        blocks, lengths, slots = _step(tables, counts)
        anew = attention.list_rows(HEADS, blocks, lengths)
        following = attention.next_token(listing, blocks, lengths, slots)
        grown += following is not None
        listing = following or anew
        _lists_the_same(listing, anew)
        found, logs = attention.attend(0, query, listing, sums=True)
        right, right_logs = attention.attend(0, query, anew, sums=True)
        assert torch.equal(found, right)
        assert logs is not None and right_logs is not None
        assert torch.equal(logs, right_logs)
    # There is room for fifteen tokens each time.
    assert grown == 62


@pytest.mark.parametrize(
    ("tables", "counts"),
    [
        ([[5, 6], [20, 3]], [20, 21]),  # nothing was added
        ([[5, 6], [20, 3]], [21, 23]),  # two tokens
        ([[20, 3], [5, 6]], [22, 21]),  # other rows in their places
        ([[5, 6], [20, 4]], [21, 22]),  # another block in its place
        ([[9, 6], [20, 3]], [21, 22]),
        ([[5, 6]], [21]),  # one has ended
        ([[5, 6], [20, 3], [8, 9]], [21, 22, 23]),  # one has begun
    ],
)
def test_what_is_not_the_next_token_of_the_same_rows_is_listed_anew(
    tables: list[list[int]], counts: list[int]
) -> None:
    attention = _gathering()
    before = _step([[5, 6], [20, 3]], [20, 21])[:2]
    listing, untouched = (attention.list_rows(HEADS, *before) for _ in range(2))
    assert attention.next_token(listing, *_step(tables, counts)) is None
    _same(listing, untouched)


def test_a_shorter_table_than_before_is_listed_anew() -> None:
    """The longest row has ended and another one stands in its place."""
    attention = _gathering()
    listing = attention.list_rows(HEADS, *_step([[5, 6, 7]], [40])[:2])
    assert attention.next_token(listing, *_step([[5, 6]], [30])) is None


def test_rows_are_the_same_bits_with_more_hidden_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a row may keep room to grow, and neighbours may share one width."""
    attention, query = _gathering(), torch.randn(1, HEADS, DIM)
    step = _step([[5, 6, 40, 7, 8, 9]], [70])[:2]
    narrow, _ = attention.attend(0, query, attention.list_rows(HEADS, *step))
    monkeypatch.setattr(gathering, "_LANES", 256)
    wide, _ = attention.attend(0, query, attention.list_rows(HEADS, *step))
    assert torch.equal(narrow, wide)
