"""What a chain did, as spans: names, times, tokens. Nothing leaves the machine.

LangChain's own tracer collects the runs; this prints them as a tree. Texts are shown only with
--content, since prompts may be private.

python examples/langchain_tracing.py [--model AquilaChat2-7B] [--content]
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from common.folder import read_folder
from common.ranking import BM25
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run

from langchain_aquila2 import ChatAquila2

QUESTIONS = ["图书馆的馆长是谁？", "How much does a ticket cost?"]


class PrintingTracer(BaseTracer):
    """Prints every finished root run with all that ran below it."""

    def __init__(self, content: bool = False) -> None:
        super().__init__()
        self._content = content

    def _persist_run(self, run: Run) -> None:
        """Print it; called once, when the root has ended, also with an error."""
        self._print(run, 0)

    def _print(self, run: Run, depth: int) -> None:
        milliseconds = (run.end_time - run.start_time).total_seconds() * 1000 if run.end_time else 0
        facts = f"{milliseconds:.0f} ms{self._usage(run)}{f', {run.error}' if run.error else ''}"
        print(f"{'  ' * depth}{run.run_type} {run.name}: {facts}")
        if self._content:
            shown = json.dumps(run.outputs, ensure_ascii=False, default=str)
            print(f"{'  ' * depth}  {shown[:160]}")
        for child in run.child_runs:
            self._print(child, depth + 1)

    @staticmethod
    def _usage(run: Run) -> str:
        if run.run_type not in ("llm", "chat_model") or not run.outputs:
            return ""
        message: Any = run.outputs["generations"][0][0]["message"]
        usage = getattr(message, "usage_metadata", None) or message["kwargs"]["usage_metadata"]
        cached = usage["input_token_details"].get("cache_read", 0)
        return (
            f", {usage['input_tokens']} tokens in ({cached} cached), {usage['output_tokens']} out"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    parser.add_argument("--content", action="store_true", help="show texts too")
    options = parser.parse_args()

    passages = [passage.text for passage in read_folder()]
    words = BM25(passages)
    find = RunnableLambda(lambda question: passages[words.rank(question, 1)[0]], name="find")
    llm = ChatAquila2(model=options.model, temperature=0, max_tokens=64).warmup()
    chain = (
        {"context": find, "question": RunnablePassthrough()}
        | ChatPromptTemplate.from_template("{context}\n\n{question}")
        | llm
        | StrOutputParser()
    )
    tracer = PrintingTracer(options.content)
    for question in QUESTIONS:
        answer = chain.invoke(question, {"callbacks": [tracer], "run_name": "answer"})
        print(f"> {question}\n  {answer}")


if __name__ == "__main__":
    main()
