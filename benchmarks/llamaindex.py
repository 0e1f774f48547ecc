"""LlamaIndex: queries at once, questions on one document, both orders of it, and a peer beside us.

``python -m benchmarks.llamaindex --peer-python PYTHON --out benchmarks/results/llamaindex.json``
reruns everything; the interpreter is one that has llama-index-llms-huggingface. Parts can be named.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.node_parser import SentenceSplitter

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
from benchmarks.limits import limits, machine
from benchmarks.models import checkpoint
from benchmarks.parts import in_turn, timed
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.conformance.texts import NGramEmbedding
from llamaindex_aquila2.long_document import ORDERS, LongDocument
from training.aquila2_demo.measures import DEPTHS, needles

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "aquila2_runtime" / "demo"
QUERIES = 16
NEW = 64
LOAD: dict[str, Any] = {"device": "cpu", "dtype": "bfloat16", "template": "aquila-v1"}
ENTRY = "Entry {n}: the office in town {n} moved to floor {f} and its telephone is {t}. "


def entries(count: int) -> list[str]:
    """Sentences that differ."""
    return [ENTRY.format(n=n, f=n % 9, t=10_000 + 37 * n) for n in range(count)]


def queries(options: argparse.Namespace) -> dict[str, Any]:
    """Sixteen ``aquery`` at once, beside one after the other and beside the runtime's own batch.

    Whether answers are to the letter those of solo calls is asked in both types: processors
    without bf16 arithmetic of their own add up one row of bf16 weights in another order than many.
    """
    found = _queries(options, "bfloat16", options.rounds)
    exact = _queries(options, "float32", 1)
    return {**found, "equal_solo_fp32": exact["equal_solo"]}


def _queries(options: argparse.Namespace, dtype: str, rounds: int) -> dict[str, Any]:
    """The batch gets the very prompts that LlamaIndex made: the difference is LlamaIndex itself."""
    path, load = str(checkpoint("25M", options.directory)), {**LOAD, "dtype": dtype}
    llm = Aquila2(path, **load, temperature=0, max_tokens=NEW, ignore_eos=True, prefix_cache=False)
    llm.use_as_default()
    index = VectorStoreIndex.from_documents(
        [Document(text=text) for text in entries(64)], embed_model=NGramEmbedding()
    )
    engine = index.as_query_engine(similarity_top_k=2)
    asked = [f"Where did the office in town {n} move?" for n in range(QUERIES)]
    answers: dict[str, list[str]] = {}
    prompts = _prompts(llm, engine, asked)
    params = SamplingParams(temperature=0, max_tokens=NEW, ignore_eos=True)

    def together() -> None:
        async def go() -> list[str]:
            return [str(one) for one in await asyncio.gather(*map(engine.aquery, asked))]

        answers["together"] = asyncio.run(go())

    def solo() -> None:
        answers["solo"] = [str(engine.query(question)) for question in asked]

    def batch() -> None:
        outputs = llm.runtime.chat_batch(prompts, params)
        answers["batch"] = [output.text for output in outputs]

    mine, one_by_one, own = in_turn(rounds, *(_timer(w) for w in (together, solo, batch)))
    counted = {"together": _counted(llm.runtime, together), "batch": _counted(llm.runtime, batch)}
    llm.close()
    return {
        "queries": QUERIES,
        "new_tokens": NEW,
        "together_s": mine,
        "sequential_s": one_by_one,
        "runtime_batch_s": own,
        "times_sequential": one_by_one / mine,
        "of_the_batch": own / mine,
        "counted": counted,
        "equal_solo": answers["together"] == answers["solo"],
        "equal_solo_of": sum(map(str.__eq__, answers["together"], answers["solo"])),
        "equal_batch": [text.strip() for text in answers["together"]]
        == [text.strip() for text in answers["batch"]],
    }


def _prompts(llm: Aquila2, engine: Any, asked: list[str]) -> list[list[Message]]:
    """The conversations that LlamaIndex makes of the questions."""
    from llama_index.core.callbacks.schema import EventPayload

    from llamaindex_aquila2._messages import to_runtime_messages
    from llamaindex_aquila2.conformance.recording import recording

    with recording(llm) as events:
        for question in asked:
            engine.query(question)
    return [to_runtime_messages(start[EventPayload.MESSAGES]) for start in events.starts]


def _counted(runtime: Aquila2Runtime, work: Callable[[], None]) -> dict[str, float]:
    """What other programs do not change: steps, and processor seconds of the model and beside it.

    What ``together`` spends beside the model more than ``batch`` does is all that LlamaIndex and
    the adapter cost; steps that are as many show that the queries were computed together.
    """
    clock = time.pthread_getcpuclockid(runtime._model().engine._thread.ident or 0)
    steps, begun = runtime.stats().decode_steps, time.process_time()
    model = time.clock_gettime(clock)
    work()
    model = time.clock_gettime(clock) - model
    return {
        "decode_steps": runtime.stats().decode_steps - steps,
        "model_cpu_s": model,
        "beside_model_cpu_s": time.process_time() - begun - model,
    }


def _timer(work: Callable[[], None]) -> Callable[[], float]:
    return lambda: timed(work)


def document(options: argparse.Namespace) -> dict[str, Any]:
    """Ten questions on one document of 12,000 tokens, beside prompts that nobody has read yet."""
    path = str(checkpoint("25M-16K", options.directory))
    llm = Aquila2(path, **LOAD, temperature=0, max_tokens=16, ignore_eos=True)
    text = "".join(entries(2_000))
    text = text[: len(text) * 12_000 // len(llm.tokenizer_fn(text))]
    book = LongDocument(llm, text)
    questions = [f"What is the telephone of town {n}?" for n in range(10)]
    cached: list[int] = []
    # The first question of all reads the document: nothing is read ahead of it here.
    each = []
    for question in questions:
        each.append(timed(lambda q=question: cached.append(_cached(book.ask(q)))))  # type: ignore[misc]
    cold = [
        timed(lambda q=question, n=n: book.ask(q, cache_salt=f"cold {n}"))  # type: ignore[misc]
        for n, question in enumerate(questions[: options.cold])
    ]
    llm.close()
    return {
        "document_tokens": book.tokens,
        "ten_questions_s": sum(each),
        "each_s": each,
        "cached_tokens": cached,
        "cold_prompts": len(cold),
        "cold_s": cold,
        "ten_cold_s": statistics.median(cold) * 10,
        "times_cold": statistics.median(cold) * 10 / sum(each),
    }


def _cached(answer: Any) -> int:
    found: int = answer.raw["usage"]["cached_tokens"]
    return found


def orders(options: argparse.Namespace) -> dict[str, Any]:
    """Right answers by depth at aquila2-demo's full window, the question before and behind.

    All of it is read anew for each question, a third of a second on one core: two minutes for
    twenty questions at each depth, in two languages and two orders.
    """
    found: dict[str, Any] = {}
    begun = time.perf_counter()
    with Aquila2Runtime.load("aquila2-demo", device="cpu") as runtime:
        llm = Aquila2.from_runtime(runtime, temperature=0, max_tokens=32)
        for lang in ("en", "zh"):
            for depth in DEPTHS:
                asked = list(needles(lang, 1_900, depth, options.needles, runtime.count_tokens))
                for order in ORDERS:
                    right = tokens = 0
                    for item in asked:
                        said = item.prompt.rpartition("<|startofpiece|>")[2]
                        text, _, question = said.partition("<|endofpiece|>")[0].rpartition("\n\n")
                        answer = LongDocument(llm, text, order=order).ask(question)
                        right += item.right(answer.text)
                        tokens = max(tokens, answer.raw["usage"]["prompt_tokens"])
                    cell = found.setdefault(lang, {}).setdefault(order, {"prompt_tokens": tokens})
                    cell[str(depth)] = right / len(asked)
    return {
        "asked_at_each_depth": options.needles,
        "right": found,
        "seconds": time.perf_counter() - begun,
    }


def peers(options: argparse.Namespace) -> dict[str, Any]:
    """The same index and questions through both classes, each in a process of its own."""
    found = {}
    pythons = {"ours": sys.executable}
    if options.peer_python:
        pythons["huggingface"] = options.peer_python
    for name, python in pythons.items():
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [python, "-m", "benchmarks.llamaindex_peer", name, str(options.rounds)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
            check=True,
            timeout=1_200,
        )
        found[name] = json.loads(done.stdout.splitlines()[-1])
    return found


def splitting(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds to split prose by the demo's own tokenizer, beside LlamaIndex's default one."""
    found: dict[str, Any] = {}
    other = SentenceSplitter(chunk_size=200)
    for lang, readme in (("en", "README.md"), ("zh", "README.zh-CN.md")):
        paths = [ROOT / readme, *sorted((ROOT / "examples" / "documents").glob(f"*_{lang}.txt"))]
        text = "\n\n".join(path.read_text("utf-8") for path in paths)

        def new(text: str = text) -> float:
            """With a tokenizer that has not seen the text: it remembers words."""
            own = Aquila2("aquila2-demo").node_parser(chunk_size=200)
            return timed(lambda: own.split_text(text))

        mine, default = in_turn(
            options.rounds, new, lambda text=text: timed(lambda: other.split_text(text))
        )
        found[lang] = {
            "characters": len(text),
            "own_s": mine,
            "default_s": default,
            "times_default": mine / default,
        }
    return found


PARTS = {
    "splitting": splitting,
    "queries": queries,
    "document": document,
    "orders": orders,
    "peers": peers,
}


def main() -> None:
    """Measure as the command line says, write a file, print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llamaindex")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", type=int, default=10, help="cold prompts that are measured")
    parser.add_argument("--needles", type=int, default=20, help="questions at each depth")
    parser.add_argument("--peer-python", help="an interpreter that has the peer")
    parser.add_argument("--note", default="", help="about the circumstances, for the file")
    parser.add_argument("--directory", type=Path, default=ROOT / ".benchmarks")
    parser.add_argument("--out", type=Path, help="a JSON file; parts not measured keep theirs")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    kept = (
        json.loads(options.out.read_text("utf-8")) if options.out and options.out.exists() else {}
    )
    facts = {
        "machine": machine() | {"llama-index-core": version("llama-index-core")},
        "limits": limits(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rounds": options.rounds,
        "note": options.note,
    }
    for name in options.parts or PARTS:
        kept[name] = {**PARTS[name](options), "measured": facts}
        if options.out is not None:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(json.dumps({name: kept[name]}, indent=1, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
