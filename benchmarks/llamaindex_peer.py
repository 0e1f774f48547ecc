"""One LLM class over the demo checkpoint: the same index and questions, then what goes wrong.

Run as ``python -m benchmarks.llamaindex_peer CLASS ROUNDS`` under an interpreter that has the
class; prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from llama_index.core import Document, Settings, VectorStoreIndex

from llamaindex_aquila2.conformance.calls import within
from llamaindex_aquila2.conformance.texts import FACTS, NGramEmbedding

# Each with what a right answer holds.
ASKED = {
    "What is the code of Project Falcon?": "Q7-Green",
    "Who started Project Harbour?": "Omar Reyes",
    "王芳的电话是多少？": "58213",
    "李强住在哪里？": "成都",
}


def ours() -> tuple[Callable[..., Any], str, dict[str, Any]]:
    """How to make an object; the name of its limit; fields of a long answer."""
    from llamaindex_aquila2 import Aquila2

    def make(**fields: Any) -> Any:
        return Aquila2("aquila2-demo", device="cpu", temperature=0, **fields)

    make().warmup().use_as_default()
    return make, "max_tokens", {"ignore_eos": True}


def huggingface() -> tuple[Callable[..., Any], str, dict[str, Any]]:
    """The same for ``HuggingFaceLLM``, whose objects share one model here."""
    from tests.llamaindex.peer_huggingface import TestHuggingFace

    suite = TestHuggingFace()

    def make(**fields: Any) -> Any:
        return suite.llm_class(**{**suite.llm_params, **fields})

    return make, suite.limit, dict(suite.exact_fields(1_000))


def outcome(work: Callable[[], Any]) -> str:
    """What a call gives, in words."""
    try:
        return str(within(60, work))
    except BaseException as error:
        text = " ".join(str(error).split())
        return f"{type(error).__name__}: {text:.160}"


def rag(make: Callable[..., Any], limit: str, rounds: int) -> dict[str, Any]:
    """The questions, one after the other; medians over the rounds."""
    Settings.llm = llm = make(**{limit: 32})
    index = VectorStoreIndex.from_documents(
        [Document(text=fact) for fact in FACTS], embed_model=NGramEmbedding()
    )
    engine = index.as_query_engine(llm=llm, similarity_top_k=1)
    seconds, answers = [], {}
    for turn in range(rounds + 1):
        began = time.perf_counter()
        answers = {question: str(engine.query(question)).strip() for question in ASKED}
        if turn:
            seconds.append(time.perf_counter() - began)
    return {
        "right": sum(ASKED[question] in answer for question, answer in answers.items()),
        "of": len(ASKED),
        "seconds": statistics.median(seconds),
        "answers": answers,
    }


def trouble(make: Callable[..., Any], limit: str, long: dict[str, Any]) -> dict[str, str]:
    """What becomes of a prompt that is too long, a stop, a wrong keyword, a stream left alone."""
    llm = make(**{limit: 8})
    whole = make(**{limit: 24}).complete("Who started Project Harbour?").text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 2]
    stopped = outcome(lambda: repr(make(**{limit: 24}).complete(
        "Who started Project Harbour?", stop=[stop]).text))  # fmt: skip

    def leave() -> str:
        stream = make(**{limit: 1_000, **long}).stream_complete("Hello")
        next(stream)
        stream.close()
        begun, deadline = time.process_time(), time.monotonic() + 30
        while time.monotonic() < deadline:
            before = time.process_time()
            time.sleep(1)
            if time.process_time() - before < 0.02:
                break
        return f"{time.process_time() - begun:.1f} s computed after closing, within 30 s"

    return {
        "overflow": outcome(lambda: repr(llm.complete("北京的图书馆在三月份搬家。" * 400).text)),
        "stop": f"{stopped}, where the whole answer is {whole!r} and the stop {stop!r}",
        "bad parameter": outcome(lambda: repr(llm.complete("Hello", temprature=0.5).text)),
        "abandon": outcome(leave),
    }


def main() -> None:
    """Measure the class that the command line names."""
    name, rounds = sys.argv[1], int(sys.argv[2])
    # What libraries print goes elsewhere: the answer alone is read.
    answer, sys.stdout = sys.stdout, sys.stderr
    make, limit, long = {"ours": ours, "huggingface": huggingface}[name]()
    package = {"ours": "aquila2", "huggingface": "llama-index-llms-huggingface"}[name]
    names = (package, "llama-index-core", "transformers", "torch")
    found = {"versions": {each: version(each) for each in names if each != "aquila2"}}
    found |= {"rag": rag(make, limit, rounds), "trouble": trouble(make, limit, long)}
    print(json.dumps(found, ensure_ascii=False), file=answer, flush=True)
    # A thread that still computes an abandoned answer would keep the process alive.
    os._exit(0)


if __name__ == "__main__":
    main()
