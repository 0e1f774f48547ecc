"""benchmarks/longbench.py: its scores by hand, and whole runs over files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
from benchmarks import longbench
from benchmarks import longbench_scores as scores

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = ROOT / "benchmarks" / "longbench_sample.jsonl"


def test_f1_shares_words_without_case_articles_and_punctuation() -> None:
    assert scores.f1("The Answer, is GREEN!", "answer is green") == 1
    assert scores.f1("green lamp", "green") == pytest.approx(2 / 3)
    assert scores.f1("", "green") == scores.f1("red", "green") == 0


def test_chinese_is_compared_piece_by_piece_and_codes_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scores, "SEGMENTED_BY", "characters")
    assert scores.chinese("密码是TQ-5521。") == ["密", "码", "是", "tq", "5521"]
    assert scores.f1("馆长是李文静。", "李文静") == pytest.approx(2 * 3 / (6 + 3))
    assert scores.exact("李文静。", "李文静") == 1


def test_rouge_l_follows_the_order_of_words() -> None:
    assert scores.rouge_l("one two three", "one three") == pytest.approx(2 * 2 / 5)
    assert scores.rouge_l("three one", "one three") == pytest.approx(2 * 1 / 4)
    assert scores.rouge_l("", "one") == 0


def test_classes_numbers_and_code_score_as_their_kinds_want() -> None:
    names = ["Sport", "Sports news", "Music"]
    assert scores.classes("It is Sports news.", "Sports news", names) == 1
    assert scores.classes("Music or Sports news", "Sports news", names) == 0.5
    assert scores.classes("Art", "Music", names) == 0
    assert scores.numbers("Paragraph 5, not 7", "Paragraph 5") == 0.5
    assert scores.numbers("段落12", "段落12") == 1
    assert scores.numbers("none", "Paragraph 5") == 0
    assert scores.code("# note\nreturn a\nx", "return a") == 1
    assert scores.code("", "return a") == 0


def test_rows_are_asked_together_and_scored_by_their_nearest_answer(
    demo_runtime: Aquila2Runtime,
) -> None:
    rows = longbench.read_rows(SAMPLE, None)
    results = longbench.run(demo_runtime, rows)
    assert {name: result.rows for name, result in results.items()} == {
        "multifieldqa_en": 3,
        "multifieldqa_zh": 3,
    }
    params = SamplingParams(temperature=0, max_tokens=64)
    for name, result in results.items():
        own = [row for row in rows if row["dataset"] == name]
        for row, answer in zip(own, result.answers, strict=True):
            prompt = longbench.fill(longbench.TASKS[name].prompt, row)
            said = demo_runtime.chat([Message("user", prompt)], params).text
            assert answer["pred"] == said
            assert answer["score"] == max(scores.f1(said, right) for right in row["answers"])
        assert result.cut == 0
        assert result.score == sum(answer["score"] for answer in result.answers)
    report = longbench.report(results)
    figures = report["datasets"]["multifieldqa_zh"]
    assert figures["score"] == round(100 * results["multifieldqa_zh"].score / 3, 2)
    assert report["mean"] == pytest.approx(
        sum(one["score"] for one in report["datasets"].values()) / 2, abs=0.01
    )


def row(dataset: str, **fields: Any) -> dict[str, Any]:
    known = {"context": "The lamp is green.", "input": "Colour?", "answers": ["green"]}
    return {"dataset": dataset, "all_classes": None, **known, **fields}


@pytest.mark.parametrize("dataset", ["multifieldqa_en", "triviaqa"])
def test_what_is_too_long_loses_its_middle_and_is_counted(
    demo_runtime: Aquila2Runtime, dataset: str
) -> None:
    rows = [row(dataset, context="Once upon a time. " * 3_000), row(dataset)]
    [result] = longbench.run(demo_runtime, rows).values()
    assert (result.rows, result.cut) == (2, 1)
    room = demo_runtime.info.max_model_len - longbench.TASKS[dataset].max_tokens
    assert room - 64 < result.prompt_tokens - 60 <= room + 60


def test_examples_in_the_prompt_are_asked_without_the_template(
    demo_runtime: Aquila2Runtime,
) -> None:
    [result] = longbench.run(demo_runtime, [row("triviaqa")]).values()
    prompt = "The lamp is green.\nColour?"
    raw = demo_runtime.complete(prompt, SamplingParams(temperature=0, max_tokens=32))
    assert result.prompt_tokens == raw.usage.prompt_tokens
    assert result.answers[0]["pred"] == raw.text.lstrip("\n").split("\n")[0]


def test_braces_in_a_document_are_text() -> None:
    filled = longbench.fill("{context}\n\n{input}", row("x", context="{input} {0}", input="{a}?"))
    assert filled == "{input} {0}\n\n{a}?"


def test_the_command_prints_figures_and_writes_answers(
    demo_runtime: Aquila2Runtime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "prompts.json").write_text('{"multifieldqa_en": "{input}\\n\\n{context}"}')
    out = tmp_path / "answers.jsonl"
    command = ["longbench", str(SAMPLE), "--limit", "2", "--model", demo_runtime.info.model]
    command += ["--prompts", str(tmp_path / "prompts.json"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    longbench.main()
    said = json.loads(capsys.readouterr().out)
    assert said["datasets"]["multifieldqa_en"]["rows"] == 2
    assert len(out.read_text("utf-8").splitlines()) == 2


@pytest.mark.parametrize("line", ["{", "[]", '{"context": "a", "input": "b"}'])
def test_a_line_of_another_form_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row("x")) + "\n" + line + "\n")
    with pytest.raises(SystemExit, match=r"rows\.jsonl, line 2"):
        longbench.read_rows(path, None)
