"""BlockPool: sharing by content, least recently used first, nothing lost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aquila2_runtime.engine.kv_cache import BlockPool


def _store(pool: BlockPool, ids: list[int], key: tuple[str, ...] = ()) -> list[int]:
    """Compute a text as a request would and give its blocks back."""
    blocks, nodes = pool.match(ids, key)
    pool.hold(blocks)
    fresh = pool.allocate(pool.blocks_for(len(ids)) - len(blocks))
    assert fresh is not None
    held = blocks + fresh
    held = pool.enter(ids, len(ids), held, nodes, key)
    pool.release(held)
    return held


def test_a_stored_prefix_is_found_again_but_for_its_last_token() -> None:
    pool = BlockPool(8, 4)
    ids = list(range(12))
    held = _store(pool, ids)
    assert pool.match(ids, ())[0] == held[:2]
    assert pool.match([*ids, 99], ())[0] == held
    assert pool.match([7, *ids], ())[0] == []


def test_prefixes_are_not_shared_across_salts() -> None:
    pool = BlockPool(8, 4)
    _store(pool, list(range(9)), ("tenant a",))
    assert pool.match(list(range(9)), ("tenant b",))[0] == []
    assert len(pool.match(list(range(9)), ("tenant a",))[0]) == 2


def test_the_same_block_after_another_prefix_is_another_block() -> None:
    pool = BlockPool(8, 2)
    _store(pool, [1, 1, 5, 5, 0])
    assert pool.match([2, 2, 5, 5, 0], ())[0] == []


def test_the_least_recently_used_leaf_goes_first() -> None:
    pool = BlockPool(4, 2)
    old = _store(pool, [1, 1, 2, 2])
    new = _store(pool, [3, 3, 4, 4])
    taken = pool.allocate(1)
    assert taken == [old[1]]
    assert pool.match([1, 1, 2, 2, 9], ())[0] == old[:1]
    assert pool.match([3, 3, 4, 4, 9], ())[0] == new


def test_a_block_that_is_there_already_is_held_instead_and_the_list_is_another() -> None:
    pool = BlockPool(8, 2)
    ids = [1, 1, 2, 2, 3]
    first, second = pool.allocate(3), pool.allocate(3)
    assert first is not None and second is not None
    assert pool.enter(ids, 4, first, [], ()) is first
    swapped = pool.enter(ids, 4, second, [], ())
    assert swapped == [*first[:2], second[2]]
    # Whoever copied the table can tell by the list itself that the copy is out of date.
    assert swapped is not second
    assert pool.num_in_use == 4
    pool.release(first)
    assert pool.num_in_use == 3
    pool.release(swapped)
    assert (pool.num_in_use, pool.num_cached) == (0, 2)


def test_switched_off_it_finds_nothing() -> None:
    pool = BlockPool(4, 2, prefix_cache=False)
    _store(pool, [1, 1, 2, 2])
    assert pool.match([1, 1, 2, 2, 3], ())[0] == []
    assert pool.num_cached == 0


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_block_is_ever_lost_or_held_twice_by_strangers(data: st.DataObject) -> None:
    pool = BlockPool(6, 2)
    live: list[tuple[list[int], list[int], list[int]]] = []  # ids, blocks, nodes
    for _ in range(data.draw(st.integers(1, 30))):
        if live and data.draw(st.booleans()):
            ids, blocks, _ = live.pop(data.draw(st.integers(0, len(live) - 1)))
            pool.release(blocks)
        else:
            ids = data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=8))
            blocks, nodes = pool.match(ids, ())
            needed = pool.blocks_for(len(ids)) - len(blocks)
            if needed > pool.free_beside(blocks):
                continue
            pool.hold(blocks)
            blocks += pool.allocate(needed) or []
            blocks = pool.enter(ids, len(ids), blocks, nodes, ())
            live.append((ids, blocks, nodes))
        held = {block for _, blocks, _ in live for block in blocks}
        assert pool.num_in_use == len(held)
        assert 0 not in held
        content: dict[int, tuple[int, ...]] = {}
        for ids, blocks, _ in live:
            for index, block in enumerate(blocks):
                # Two requests hold one block only when everything up to its end is the same.
                upto = tuple(ids[: (index + 1) * 2])
                assert content.setdefault(block, upto) == upto
        free_cached = sum(1 for block in pool._block_node if block not in held)
        assert pool.num_cached == free_cached
    for _, blocks, _ in live:
        pool.release(blocks)
    assert pool.num_free == 6
