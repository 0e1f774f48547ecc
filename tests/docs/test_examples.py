"""The examples run offline on the embedded checkpoint and answer what they ask."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
DOCUMENTS = sorted((ROOT / "examples" / "documents").glob("*.txt"))


@pytest.fixture
def printed(request: pytest.FixtureRequest, demo_model: str) -> str:
    """What an example prints in a process of its own."""
    if demo_model != "aquila2-demo":
        pytest.skip("the examples name aquila2-demo, whose weights are not embedded yet")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / request.param)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)},
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("printed", ["demo.py"], indirect=True)
def test_the_demo_answers_in_both_languages_through_both_frameworks(printed: str) -> None:
    assert re.search(r"^答：.*李文静", printed, re.MULTILINE), printed
    assert re.search(r"^A: .*Helen Baker", printed, re.MULTILINE), printed


@pytest.mark.parametrize("printed", ["chat.py"], indirect=True)
def test_the_conversation_is_remembered(printed: str) -> None:
    assert re.search(r"^> 我住在哪里？\n.*杭州", printed, re.MULTILINE), printed
    assert re.search(r"^> What is my cat called\?\n.*Momo", printed, re.MULTILINE), printed


@pytest.mark.parametrize("printed", ["langchain_rag.py"], indirect=True)
def test_the_chain_finds_the_passage_and_the_answer(printed: str) -> None:
    assert re.search(r"密码是什么？\n +.*TQ-5521", printed), printed
    assert re.search(r"ticket cost\?\n +.*14 euros.* \[museum_en\.txt\]", printed), printed
    assert re.search(r"价格是多少？\n +.*299元", printed), printed


@pytest.mark.parametrize("printed", ["llamaindex_qa.py"], indirect=True)
def test_the_engines_answer(printed: str) -> None:
    assert re.search(r"设计师是谁？\n +.*陈思雨", printed), printed
    assert re.search(r"价格是多少？\n +.*299元", printed), printed
    assert re.search(r"What is the password\? *\n +.*blue-tiger-42", printed), printed


@pytest.mark.parametrize("printed", ["langchain_history.py"], indirect=True)
def test_each_thread_remembers_its_own(printed: str) -> None:
    assert re.search(r"^one> 我住在哪里？\n.*杭州", printed, re.MULTILINE), printed
    assert re.search(r"^two> What is my cat called\?\n.*Momo", printed, re.MULTILINE), printed


@pytest.mark.parametrize("printed", ["langchain_batch.py"], indirect=True)
def test_a_batch_tells_every_answer_as_it_ends(printed: str) -> None:
    assert re.findall(r"^\[(\d)/4\]", printed, re.MULTILINE) == ["1", "2", "3", "4"]
    assert re.search(r"\n +red-tiger-41", printed), printed


@pytest.mark.parametrize("printed", ["langchain_extraction.py"], indirect=True)
def test_every_text_gives_an_object_of_the_schema(printed: str) -> None:
    found = re.findall(r"Person\(name='.*', age=-?\d+, city='.*'\) \((stop|length)\)", printed)
    assert len(found) == 2, printed


@pytest.mark.parametrize("printed", ["langchain_agent.py"], indirect=True)
def test_the_agent_ends_every_question_with_an_answer(printed: str) -> None:
    assert re.search(r"^> Get the stock.*\n(.*\n)*?  ai: .+", printed, re.MULTILINE), printed
    assert re.search(r"^> Add 12 and 30\.\n(.*\n)*?  ai: .+", printed, re.MULTILINE), printed


@pytest.mark.parametrize("printed", ["llamaindex_long_document.py"], indirect=True)
def test_a_document_is_read_once_for_all_questions(printed: str) -> None:
    assert re.search(r"head librarian\?\n +Maria Silva\n", printed), printed
    assert re.search(r"馆长是谁？\n +李文静\n", printed), printed
    for name in ("library_en", "library_zh"):
        length = re.search(rf"{name}\.txt: (\d+) tokens", printed)
        assert length is not None, printed
        second = printed[length.end() :].split("> ")[2]
        cached = re.search(r"tokens, (\d+) of them cached", second)
        assert cached is not None and int(cached[1]) > int(length[1]) - 32, printed
    assert re.search(r"director of the museum\?\n +Helen Baker\n", printed), printed
    assert re.search(r"密码是什么？\n +TQ-5521\n.*\n +page \d+, characters \d+", printed), printed


def test_every_example_is_tested_and_takes_a_real_model() -> None:
    source = Path(__file__).read_text("utf-8")
    for name in EXAMPLES:
        assert f'"{name}"' in source
        assert '"--model"' in (ROOT / "examples" / name).read_text("utf-8")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_are_prose_of_a_page(path: Path) -> None:
    text = path.read_text("utf-8")
    size = len(text) if path.stem.endswith("_zh") else len(text.split())
    assert 120 <= size <= 400
    assert text.count("\n\n") >= 3
