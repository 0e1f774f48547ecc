"""The feature tables: every test they name exists, and of others only what was run is told."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LANGCHAIN = (ROOT / "docs" / "langchain.md").read_text("utf-8")
LLAMAINDEX = (ROOT / "docs" / "llamaindex.md").read_text("utf-8")
NAMED = re.compile(r"`([^`]*test_[^`]*)`")
TOLD = re.compile(r"\*\*|not run|server's")


def table(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its own head."""
    section = text.split(f"\n## {heading}\n", 1)[1]
    lines = [line for line in section.split("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


LANGCHAIN_ROWS = table(LANGCHAIN, "Feature table")
POINTS = table(LLAMAINDEX, "A conformance suite for LLM classes")
BESIDE = table(LLAMAINDEX, "Beside other LLM classes")


def measured(*files: str) -> set[str]:
    """The rows that files of benchmarks/peers look at: keys of their ROWS.

    They are read and not imported, for they need packages of others.
    """
    rows = set()
    for file in files:
        tree = ast.parse((ROOT / "benchmarks" / "peers" / f"{file}.py").read_text("utf-8"))
        for node in tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            target = node.target if isinstance(node, ast.AnnAssign) else target
            if isinstance(target, ast.Name) and target.id == "ROWS":
                assert isinstance(node.value, ast.Dict)
                rows |= {ast.literal_eval(key) for key in node.value.keys}
    return rows


MEASURED = measured("answers", "calls", "objects")
MEASURED_BESIDE = measured("llamaindex_calls", "llamaindex_inputs")


@functools.cache
def defined(path: Path) -> frozenset[str]:
    """The names of all functions and classes of a file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, kinds)
    )


def of_folders(*folders: str) -> frozenset[str]:
    files = [path for folder in folders for path in (ROOT / folder).glob("*.py")]
    return frozenset().union(*map(defined, files))


def names(rows: list[list[str]]) -> list[str]:
    return [name for row in rows for name in NAMED.findall(row[1])]


def test_the_tables_are_found() -> None:
    assert len(LANGCHAIN_ROWS) > 30
    assert len(POINTS) > 20
    assert len(BESIDE) > 15
    assert {len(row) for row in LANGCHAIN_ROWS} == {len(row) for row in BESIDE} == {5}


@pytest.mark.parametrize("name", names(LANGCHAIN_ROWS))
def test_a_test_that_the_langchain_table_names_exists(name: str) -> None:
    file, _, inner = name.partition("::")
    path = ROOT / "tests" / "langchain" / file
    assert path.is_file()
    assert set(inner.split("::")) - {""} <= defined(path)


@pytest.mark.parametrize("name", names(POINTS) + names(BESIDE))
def test_a_test_that_a_llamaindex_table_names_exists(name: str) -> None:
    known = of_folders("llamaindex_aquila2/conformance", "tests/llamaindex")
    if name.startswith("tests/"):
        assert (ROOT / name).exists()
    elif name.endswith(".py"):
        assert (ROOT / "tests" / "llamaindex" / name).is_file()
    elif name.endswith("..."):
        assert any(one.startswith(name.removesuffix("...")) for one in known)
    else:
        assert name in known


@pytest.mark.parametrize("row", LANGCHAIN_ROWS, ids=lambda row: row[0])
def test_what_the_langchain_table_says_of_others_was_run(row: list[str]) -> None:
    assert all(TOLD.search(cell) for cell in row[2:])
    # The standard suites have a command of their own.
    if any("**" in cell for cell in row[2:4]) and "standard suites" not in row[0]:
        assert row[0] in MEASURED


@pytest.mark.parametrize("row", BESIDE, ids=lambda row: row[0])
def test_what_the_llamaindex_table_says_of_others_was_run(row: list[str]) -> None:
    for cell in row[3:]:
        assert TOLD.search(cell)
        assert "**" not in cell or row[0] in MEASURED_BESIDE


def test_every_row_that_is_measured_stands_in_its_table() -> None:
    assert len(MEASURED) > 30
    assert MEASURED.issubset(row[0] for row in LANGCHAIN_ROWS)
    assert len(MEASURED_BESIDE) > 10
    assert MEASURED_BESIDE.issubset(row[0] for row in BESIDE)
