"""Sharing: rows that lead with the same blocks are found, and grouped where it saves most."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aquila2_runtime.engine.sharing import (
    MIN_SAVED_TOKENS,
    MIN_SHARED_TOKENS,
    Group,
    shared_groups,
)

SIZE = 16
# Blocks of a prefix that is just long enough.
SHORT = MIN_SHARED_TOKENS // SIZE


def test_rows_over_one_document_form_a_group_up_to_their_own_blocks() -> None:
    document = list(range(1, 101))
    tables = [[*document, 200 + row, 300 + row] for row in range(3)]
    assert shared_groups(tables, SIZE) == [Group((0, 1, 2), 100)]


def test_a_row_that_ends_within_the_document_shares_as_far_as_it_goes() -> None:
    document = list(range(1, 201))
    assert shared_groups([document, document[:190]], SIZE) == [Group((0, 1), 190)]


def test_two_documents_under_one_system_prompt_are_two_groups() -> None:
    system, first, second = list(range(1, 21)), list(range(100, 200)), list(range(300, 400))
    tables = [[*system, *(first if row % 2 else second), 900 + row] for row in range(8)]
    assert shared_groups(tables, SIZE) == [Group((0, 2, 4, 6), 120), Group((1, 3, 5, 7), 120)]


def test_a_long_system_prompt_before_short_differences_is_one_group() -> None:
    system = list(range(1, 101))
    tables = [[*system, 200 + row // 2, 300 + row] for row in range(8)]
    assert shared_groups(tables, SIZE) == [Group(tuple(range(8)), 100)]


def test_what_is_too_little_is_left_alone() -> None:
    assert shared_groups([], SIZE) == []
    assert shared_groups([[1] * 200], SIZE) == []
    short = list(range(1, SHORT))
    assert shared_groups([[*short, 900 + row] for row in range(50)], SIZE) == []
    enough = MIN_SAVED_TOKENS // SIZE
    assert shared_groups([list(range(1, enough))] * 2, SIZE) == []
    assert shared_groups([list(range(1, enough + 1))] * 2, SIZE) == [Group((0, 1), enough)]


@given(st.data())
def test_a_group_shares_what_it_says_and_no_row_is_in_two(data: st.DataObject) -> None:
    # Blocks named by their path, as physical blocks are: equal only after equal prefixes.
    names: dict[tuple[int, ...], int] = {}
    tables: list[list[int]] = []
    for _ in range(data.draw(st.integers(0, 12))):
        path = data.draw(st.lists(st.integers(0, 1), max_size=5))
        table: list[int] = []
        for depth in range(len(path)):
            key = tuple(path[: depth + 1])
            table += [names.setdefault((*key, at), len(names) + 1) for at in range(SHORT)]
        tables.append(table)
    seen: set[int] = set()
    for group in shared_groups(tables, SIZE):
        leading = {tuple(tables[row][: group.length]) for row in group.rows}
        assert len(leading) == 1
        assert len(leading.pop()) == group.length >= SHORT
        assert group.saved * SIZE >= MIN_SAVED_TOKENS
        assert not seen & set(group.rows)
        seen |= set(group.rows)
