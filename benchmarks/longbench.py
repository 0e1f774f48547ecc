"""Long-document tasks in LongBench's format, from local files: asks, cuts, scores, reports.

``python -m benchmarks.longbench FILE.jsonl ... [--model AquilaChat2-7B-16K] [--limit N]
[--prompts prompts.json] [--plain] [--out answers.jsonl]``

A line has ``context``, ``input``, ``answers``, ``dataset``, and for classes ``all_classes``, as in
LongBench's own files. What does not fit the context loses its middle. The prompts are this
project's: give LongBench's (a JSON object of one template per dataset) to compare with published
figures. Tasks shown by examples in the prompt are asked without the chat template, as there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aquila2_runtime import Aquila2Runtime, Message, RequestOutput, SamplingParams
from benchmarks import longbench_scores as scores

_ANSWER = "Answer the question from the text. Give only the answer.\n\n{context}\n\n{input}"
_ANSWER_ZH = "请根据文章回答问题，只给出答案。\n\n{context}\n\n{input}"
_SUMMARY = "Write a summary of the text.\n\n{context}\n\n{input}"
_SUMMARY_ZH = "请写出下面内容的总结。\n\n{context}\n\n{input}"
_EXAMPLES = "{context}\n{input}"
_FIND = "Which paragraph is the abstract from? Give its number.\n\n{context}\n\n{input}"
_FIND_ZH = "摘要出自哪个段落？请给出编号。\n\n{context}\n\n{input}"
_COUNT = "How many different paragraphs are there? Give only the number.\n\n{context}\n\n{input}"


@dataclass(frozen=True)
class Task:
    """How a dataset is asked and scored.

    Attributes:
        score: Compares an answer with a right one.
        max_tokens: Of an answer.
        prompt: With ``{context}`` and ``{input}``.
        raw: Whether its prompt shows examples to go on from: no template.
        first_line: Whether the answer ends with its first line.
    """

    score: scores.Score
    max_tokens: int
    prompt: str = _ANSWER
    raw: bool = False
    first_line: bool = False


def _shown(score: scores.Score, max_tokens: int) -> Task:
    return Task(score, max_tokens, _EXAMPLES, raw=True, first_line=True)


TASKS = {
    "narrativeqa": Task(scores.f1, 128),
    "qasper": Task(scores.f1, 128),
    "multifieldqa_en": Task(scores.f1, 64),
    "multifieldqa_zh": Task(scores.f1, 64, _ANSWER_ZH),
    "hotpotqa": Task(scores.f1, 32),
    "2wikimqa": Task(scores.f1, 32),
    "musique": Task(scores.f1, 32),
    "dureader": Task(scores.rouge_l, 128, _ANSWER_ZH),
    "gov_report": Task(scores.rouge_l, 512, _SUMMARY),
    "qmsum": Task(scores.rouge_l, 512, _SUMMARY),
    "multi_news": Task(scores.rouge_l, 512, _SUMMARY),
    "vcsum": Task(scores.rouge_l, 512, _SUMMARY_ZH),
    "trec": _shown(scores.classes, 64),
    "triviaqa": _shown(scores.f1, 32),
    "samsum": _shown(scores.rouge_l, 128),
    "lsht": _shown(scores.classes, 64),
    "passage_count": Task(scores.numbers, 32, _COUNT),
    "passage_retrieval_en": Task(scores.numbers, 32, _FIND),
    "passage_retrieval_zh": Task(scores.numbers, 32, _FIND_ZH),
    "lcc": Task(scores.code, 64, _EXAMPLES, raw=True),
    "repobench-p": Task(scores.code, 64, _EXAMPLES, raw=True),
}
PLAIN = "{context}\n\n{input}"
OTHER = Task(scores.f1, 64)
BATCH = 8


@dataclass
class Result:
    """A dataset's figures so far; score and exact are sums until ``report`` divides them."""

    rows: int = 0
    score: float = 0.0
    exact: float = 0.0
    cut: int = 0
    prompt_tokens: int = 0
    seconds: float = 0.0
    answers: list[dict[str, Any]] = field(default_factory=list)


def read_rows(path: Path, limit: int | None) -> list[dict[str, Any]]:
    """Read a file's lines.

    Raises:
        SystemExit: A line is no JSON object of LongBench's form; the message says which.
    """
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines()[:limit], start=1):
        try:
            row = json.loads(line)
            missing = {"context", "input", "answers"} - row.keys()
        except (ValueError, AttributeError) as error:
            sys.exit(f"{path}, line {number}: not a JSON object ({error}).")
        if missing:
            sys.exit(f"{path}, line {number}: without {', '.join(sorted(missing))}.")
        rows.append({"dataset": path.stem, "all_classes": None, **row})
    return rows


def fill(template: str, row: Mapping[str, Any]) -> str:
    """Put a row into a template; braces in the document stay as they are."""
    before, _, after = template.partition("{context}")
    return (
        before.replace("{input}", row["input"])
        + str(row["context"])
        + after.replace("{input}", row["input"])
    ).strip()


def ask(
    runtime: Aquila2Runtime, task: Task, prompts: Sequence[str]
) -> Iterator[tuple[RequestOutput, bool]]:
    """Ask a few prompts together; each answer with whether its prompt was cut."""
    params = SamplingParams(temperature=0, max_tokens=task.max_tokens)
    if not task.raw:
        chats = [[Message("user", prompt)] for prompt in prompts]
        for output in runtime.chat_batch(chats, params, fit="middle"):
            yield output, bool(output.notices)
        return
    room = runtime.info.max_model_len - task.max_tokens
    for prompt in prompts:
        ids = runtime.tokenizer.encode_ordinary(prompt)
        cut = len(ids) > room
        if cut:
            half = room // 2
            ids = [*ids[:half], *ids[-(room - half) :]]
        yield runtime.complete(prompt_token_ids=ids, params=params), cut


def run(
    runtime: Aquila2Runtime,
    rows: Sequence[Mapping[str, Any]],
    prompts: Mapping[str, str] | None = None,
    plain: bool = False,
) -> dict[str, Result]:
    """Ask every row and score it; the figures by dataset."""
    results: dict[str, Result] = {}
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        task = TASKS.get(dataset, OTHER)
        template = PLAIN if plain else (prompts or {}).get(dataset, task.prompt)
        own = [row for row in rows if row["dataset"] == dataset]
        result = results[dataset] = Result()
        start = time.perf_counter()
        for at in range(0, len(own), BATCH):
            some = own[at : at + BATCH]
            asked = ask(runtime, task, [fill(template, row) for row in some])
            for row, (output, cut) in zip(some, asked, strict=True):
                add(result, task, row, output, cut)
            print(f"{dataset}: {result.rows} of {len(own)}", file=sys.stderr, flush=True)
        result.seconds = time.perf_counter() - start
    return results


def add(
    result: Result, task: Task, row: Mapping[str, Any], output: RequestOutput, cut: bool
) -> None:
    """Score an answer against the right one it is nearest to."""
    names = row["all_classes"] or ()
    said = output.text.lstrip("\n").split("\n")[0] if task.first_line else output.text
    score = max((task.score(said, right, names) for right in row["answers"]), default=0.0)
    result.rows += 1
    result.score += score
    result.exact += max((scores.exact(said, right) for right in row["answers"]), default=0)
    result.cut += cut
    result.prompt_tokens += output.usage.prompt_tokens
    result.answers.append({"pred": said, "answers": row["answers"], "score": score})


def report(results: Mapping[str, Result]) -> dict[str, Any]:
    """Figures of every dataset and their mean, scores in percent as LongBench gives them."""
    shown = {}
    for dataset, result in results.items():
        figures = {k: v for k, v in asdict(result).items() if k != "answers"}
        figures |= {k: round(100 * figures[k] / max(result.rows, 1), 2) for k in ("score", "exact")}
        shown[dataset] = figures | {"seconds": round(result.seconds, 1)}
    mean = sum(figures["score"] for figures in shown.values()) / max(len(shown), 1)
    return {"datasets": shown, "mean": round(mean, 2), "segmented_by": scores.SEGMENTED_BY}


def main() -> None:
    """Ask, score, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="JSON lines in LongBench's format")
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    parser.add_argument("--limit", type=int, help="rows of a file at most")
    parser.add_argument("--prompts", type=Path, help="a JSON object: a template per dataset")
    parser.add_argument("--plain", action="store_true", help="document and question, nothing else")
    parser.add_argument("--out", type=Path, help="write the answers here, as JSON lines")
    options = parser.parse_args()
    rows = [row for path in options.files for row in read_rows(path, options.limit)]
    prompts = json.loads(options.prompts.read_text("utf-8")) if options.prompts else None
    with Aquila2Runtime.load(options.model) as runtime:
        results = run(runtime, rows, prompts, options.plain)
        shown = {"model": runtime.info.model, "context": runtime.info.max_model_len}
    print(json.dumps(shown | report(results), indent=2))
    if options.out is not None:
        answers = [
            json.dumps({"dataset": name, **answer}, ensure_ascii=False)
            for name, result in results.items()
            for answer in result.answers
        ]
        options.out.write_text("\n".join(answers) + "\n", "utf-8")


if __name__ == "__main__":
    main()
