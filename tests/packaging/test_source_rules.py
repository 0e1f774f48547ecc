"""Rules every source file of the packages keeps, read from the syntax tree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("aquila2_runtime", "langchain_aquila2", "llamaindex_aquila2")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]
# A suite of tests for others to run, never imported by the rest: its asserts are what it is for,
# pytest rewrites them into raises, and a model's pickle is one of the things it looks at.
SUITE = ROOT / "llamaindex_aquila2" / "conformance"
PRODUCTION = [path for path in FILES if SUITE not in path.parents]
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "breakpoint"}
FORBIDDEN_IMPORTS = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "jinja2", "diskcache"}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def test_there_are_sources_to_check() -> None:
    assert len(FILES) > 30
    assert {name.split("/")[0] for name in NAMES} >= {"aquila2_runtime"}


@pytest.mark.parametrize("path", PRODUCTION, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_asserts_evaluates_or_unpickles(path: Path) -> None:
    """S11: an ``assert`` would vanish under ``python -O``."""
    wrong = []
    for node in ast.walk(parse(path)):
        match node:
            case ast.Assert():
                wrong.append(f"{node.lineno}: assert")
            case ast.Global():
                wrong.append(f"{node.lineno}: global")
            case ast.ExceptHandler(type=None):
                wrong.append(f"{node.lineno}: bare except")
            case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_CALLS:
                wrong.append(f"{node.lineno}: {name}()")
            case ast.Call(func=ast.Name(id="print")) if "cli" not in path.parts:
                wrong.append(f"{node.lineno}: print()")
            case ast.Import(names=names):
                found = {alias.name.split(".")[0] for alias in names} & FORBIDDEN_IMPORTS
                wrong += [f"{node.lineno}: import {name}" for name in found]
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in FORBIDDEN_IMPORTS:
                wrong.append(f"{node.lineno}: from {module}")
            case _:
                pass
    assert wrong == []


def test_no_package_imports_the_suite_of_tests() -> None:
    """It needs pytest, which is not installed where the packages are used."""
    for path in PRODUCTION:
        assert "conformance" not in path.read_text("utf-8"), path


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_file_trusts_remote_code(path: Path) -> None:
    """L1: the words occur nowhere, neither as a keyword nor in a dict."""
    text = path.read_text("utf-8").replace(" ", "")
    assert "trust_remote_code=True" not in text
    assert "trust_remote_code':True" not in text
    assert 'trust_remote_code":True' not in text


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_torch_load_is_always_restricted(path: Path) -> None:
    """L2: every ``torch.load`` says ``weights_only=True``."""
    for node in ast.walk(parse(path)):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) != "torch.load":
            continue
        said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert said.get("weights_only") == "True", f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_says_what_it_owns_and_stays_readable(path: Path) -> None:
    text = path.read_text("utf-8")
    assert (ast.get_docstring(parse(path)) or "").strip(), "the first line says what it owns"
    assert text.count("\n") <= 400, "a file is one noun"
