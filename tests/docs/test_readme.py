"""Both READMEs tell the truth: their code runs, prints what stands under it, and they agree."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest

from aquila2_runtime.catalog import RELEASED
from tests.docs.conftest import ROOT, run_python

ENGLISH = (ROOT / "README.md").read_text("utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN_ALL = """
import contextlib, io, json, sys
printed = []
for code in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    printed.append(out.getvalue())
json.dump(printed, sys.stdout)
"""
HEADING = re.compile(r"^(#+) ", re.MULTILINE)


def blocks(text: str) -> list[tuple[str, str]]:
    return [(found[1], found[2]) for found in BLOCK.finditer(text)]


def examples() -> list[tuple[str, str]]:
    """Each Python block with the text block that follows it."""
    all_blocks = blocks(ENGLISH)
    return [
        (code, output)
        for (language, code), (after, output) in pairwise(all_blocks)
        if (language, after) == ("python", "text")
    ]


def test_every_python_block_has_its_output_under_it() -> None:
    languages = [language for language, _ in blocks(ENGLISH)]
    assert languages.count("python") == len(examples()) >= 4


@pytest.fixture(scope="module")
def printed(demo_model: str) -> list[str]:
    """What each example prints; all run in one fresh interpreter, each with its own names."""
    if demo_model != "aquila2-demo":
        pytest.skip("the examples name aquila2-demo, whose weights are not embedded yet")
    codes = [code for code, _ in examples()]
    found: list[str] = json.loads(run_python("-c", RUN_ALL, timeout=110, told=json.dumps(codes)))
    return found


@pytest.mark.parametrize("index", range(len(examples())))
def test_an_example_prints_exactly_what_the_readme_says(index: int, printed: list[str]) -> None:
    assert printed[index] == examples()[index][1]


def test_both_languages_have_the_same_code_and_structure() -> None:
    assert blocks(CHINESE) == blocks(ENGLISH)
    assert HEADING.findall(CHINESE) == HEADING.findall(ENGLISH)
    assert CHINESE.count("\n- ") == ENGLISH.count("\n- ")
    assert CHINESE.count("\n|") == ENGLISH.count("\n|")


def test_something_runs_on_the_first_screen() -> None:
    lines = ENGLISH.splitlines()
    assert any("pip install" in line for line in lines[:12])
    assert "```python" in lines[:20]


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["english", "chinese"])
def test_the_table_of_models_is_the_catalogue(text: str) -> None:
    rows = re.findall(r"^\| `([\w.-]+)` \| ([^|]+) \| (\d+) \|", text, re.MULTILINE)
    assert [name for name, _, _ in rows] == [entry.name for entry in RELEASED]
    for (name, template, context), entry in zip(rows, RELEASED, strict=True):
        assert int(context) == entry.context_length, name
        if entry.template is None:
            assert template.startswith(("none", "无")), name
        else:
            assert template == entry.template, name


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["english", "chinese"])
def test_links_to_files_lead_somewhere(text: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links
    for link in links:
        assert (ROOT / link).is_file(), link


def test_commands_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"\bmake ([a-z-]+)", ENGLISH)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for command in set(re.findall(r"^aquila2 (\w+)", ENGLISH, re.MULTILINE)):
        assert (ROOT / "aquila2_runtime" / "cli" / f"{command}.py").is_file(), command


def test_extras_of_the_readme_exist() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    for listed in re.findall(r'pip install "\.\[([\w,-]+)\]"', ENGLISH + CHINESE):
        for extra in listed.split(","):
            assert re.search(rf"^{extra} = \[", pyproject, re.MULTILINE), extra
