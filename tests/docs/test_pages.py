"""The code of the pages under docs/ runs as it stands, each page's from top to bottom."""

from __future__ import annotations

import re

import pytest

from tests.docs.conftest import ROOT, run_python

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What a page leaves to the reader.
GIVEN = {"llamaindex.md": "MyLLM = None\n", "langchain.md": "", "server.md": ""}


@pytest.mark.parametrize("page", sorted(GIVEN))
def test_the_code_of_a_page_runs(page: str, demo_model: str) -> None:
    if demo_model != "aquila2-demo":
        pytest.skip("the pages name aquila2-demo, whose weights are not embedded yet")
    blocks = BLOCK.findall((ROOT / "docs" / page).read_text("utf-8"))
    assert blocks
    run_python("-c", GIVEN[page] + "\n".join(blocks), timeout=110)


def test_every_page_is_run() -> None:
    assert sorted(path.name for path in (ROOT / "docs").glob("*.md")) == sorted(GIVEN)
