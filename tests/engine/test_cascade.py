"""Cascade attention: a shared prefix read once gives what reading it per row gives."""

from __future__ import annotations

import pytest
import torch

from aquila2_runtime.engine.attention import gathered
from aquila2_runtime.engine.attention.base import Attention
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.cpu import RunAttention
from aquila2_runtime.engine.attention.gathered import GatheredAttention
from aquila2_runtime.engine.planner import Planner
from aquila2_runtime.engine.scheduler import Scheduled
from tests.engine.paper_model import make_request

SIZE, HEADS, DIM = 16, 4, 8
CPU = torch.device("cpu")


KINDS = pytest.mark.parametrize("kind", [GatheredAttention, RunAttention], ids=lambda k: k.name)


def _attention(kind: type[Attention], kv_heads: int, blocks: int) -> Attention:
    cache = PagedKVCache(
        num_layers=1,
        num_blocks=blocks,
        block_size=SIZE,
        num_kv_heads=kv_heads,
        head_dim=DIM,
        dtype=torch.float32,
        device=CPU,
    )
    generator = torch.Generator().manual_seed(1)
    cache.keys[0].normal_(generator=generator)
    cache.values[0].normal_(generator=generator)
    return kind(cache)


def _decodes(tables: list[list[int]], own: list[int], drafts: int = 0) -> list[Scheduled]:
    """Requests whose newest token stands ``own`` tokens into their last block."""
    items = []
    for number, (table, offset) in enumerate(zip(tables, own, strict=True)):
        start = (len(table) - 1) * SIZE + offset
        request = make_request(number, [1] * start)
        request.token_ids.append(1)
        request.blocks = [*table, 150 + number]
        items.append(Scheduled(request, start, 1, (2,) * drafts))
    return items


def _attend(
    attention: Attention, items: list[Scheduled], *, cascades: bool
) -> tuple[torch.Tensor, int]:
    plan = Planner(SIZE, CPU, cascades=cascades).plan(items)
    generator = torch.Generator().manual_seed(2)
    kv_heads = attention.cache.keys[0].shape[0]
    rows = sum(item.rows for item in items)
    # Large queries: sharp softmaxes, where a wrong weighing of the parts would show.
    query = torch.randn(rows, HEADS, DIM, generator=generator) * 4
    key = torch.randn(rows, kv_heads, DIM, generator=generator)
    value = torch.randn(rows, kv_heads, DIM, generator=generator)
    return attention.attend(0, query, key, value, plan), len(plan.shared)


@KINDS
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("in_line", [True, False])
def test_a_shared_prefix_changes_nothing_but_rounding(
    kind: type[Attention], kv_heads: int, in_line: bool
) -> None:
    document = list(range(1, 71)) if in_line else [*range(70, 0, -1)]
    other = list(range(71, 141))
    tables = [[*document, 141], [*document, 142, 143], [*document[:60], 144], [145, 146], other]
    tables.append([*other, 147])
    attention = _attention(kind, kv_heads, 170)
    items = _decodes(tables, [0, 15, 3, 7, 4, 9])
    plain, none = _attend(attention, items, cascades=False)
    cascade, groups = _attend(attention, items, cascades=True)
    assert (none, groups) == (0, 2)
    assert not torch.equal(plain, cascade)  # it did go another way
    torch.testing.assert_close(cascade, plain, rtol=1e-5, atol=2e-6)


@KINDS
def test_the_drafts_of_one_request_share_all_of_its_context(kind: type[Attention]) -> None:
    attention = _attention(kind, 2, 170)
    items = _decodes([list(range(1, 100))], [14], drafts=5)
    plain, _ = _attend(attention, items, cascades=False)
    cascade, groups = _attend(attention, items, cascades=True)
    assert groups == 1
    torch.testing.assert_close(cascade, plain, rtol=1e-5, atol=2e-6)


def test_a_plan_shares_nothing_where_the_attention_does_not_ask_for_it() -> None:
    items = _decodes([[*range(1, 100), 100 + row] for row in range(4)], [1, 2, 3, 4])
    plan = Planner(SIZE, CPU, cascades=False).plan(items)
    assert plan.shared == ()
    assert plan.decode_lengths is not None
    assert plan.decode_lengths.tolist() == [99 * SIZE + own + 1 for own in (1, 2, 3, 4)]


def test_what_is_shared_is_left_out_of_the_tables() -> None:
    items = _decodes([[*range(1, 100), 100 + row] for row in range(4)], [1, 2, 3, 4])
    plan = Planner(SIZE, CPU, cascades=True).plan(items)
    (prefix,) = plan.shared
    assert prefix.first == 1
    assert prefix.blocks.tolist() == list(range(1, 100))
    assert plan.decode_blocks is not None and plan.decode_lengths is not None
    assert plan.decode_blocks.tolist() == [[100], [101], [102], [103]]
    assert plan.decode_lengths.tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize("cascades", [True, False])
def test_one_long_context_among_many_rows_is_not_gathered_for_all_of_them(
    cascades: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = _attention(GatheredAttention, 2, 170)
    document = list(range(1, 100))
    tables = [document, [*document[:70], 101], *([n] for n in range(102, 120))]
    items = _decodes(tables, [0, 9] + [5] * 18)
    whole, groups = _attend(attention, items, cascades=cascades)
    assert groups == cascades
    asked: list[int] = []
    real = attention.cache.gather

    def counted(
        layer: int, blocks: torch.Tensor, dtype: torch.dtype | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(blocks.numel())
        return real(layer, blocks, dtype)

    monkeypatch.setattr(attention.cache, "gather", counted)
    widest = 100  # blocks of the longest row, its own one included
    block_bytes = 2 * 2 * DIM * SIZE * 4
    monkeypatch.setattr(gathered, "GATHERED_BYTES", 3 * widest * block_bytes)
    parts, _ = _attend(attention, items, cascades=cascades)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=2e-6)
    assert max(asked) <= 3 * widest
    assert len(asked) > 1
    monkeypatch.setattr(gathered, "GATHERED_BYTES", 1)
    asked.clear()
    each, _ = _attend(attention, items, cascades=cascades)
    torch.testing.assert_close(each, whole, rtol=1e-5, atol=2e-6)
    assert max(asked) <= widest
