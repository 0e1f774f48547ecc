"""Questions about PDF files with LlamaIndex, in English and Chinese; answers name page and place.

A file that does not fit the model's context is answered from its passages that match the question.

python examples/llamaindex_pdf.py [--model AquilaChat2-7B-16K] [--nf4] [--pdf contract.pdf]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common.console import typed
from common.limits import passages_for
from common.pdf import read_pdf
from llama_index.core import Document

from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.long_document import LongDocument

FOLDER = Path(__file__).parent / "documents"
QUESTIONS = {
    "handbook_en.pdf": [
        "Who is the manager of the house?",
        "What is the password for the guest network?",
        "How much does a ticket for the bus cost?",
    ],
    "handbook_zh.pdf": ["客栈的经理是谁？", "客栈的无线网密码是什么？", "客栈的电话是多少？"],
}


def open_pdf(llm: Aquila2, path: Path, order: str) -> LongDocument:
    """Read a file; its pages are named as in the file, so that sources can be looked up."""
    pages = [
        Document(text=text, metadata={"page_label": str(number)})
        for number, text in enumerate(read_pdf(path), start=1)
    ]
    document = LongDocument(llm, pages, order=order, **passages_for(llm))
    print(f"{path.name}: {len(pages)} pages, {document.tokens} tokens")
    return document


def ask(document: LongDocument, question: str) -> None:
    print(f"> {question}\n  ", end="")
    for answer in document.stream(question):
        print(answer.delta, end="", flush=True)
    print()
    if answer.sources:
        best = max(answer.sources, key=lambda source: source.score or 0)
        print(f"  [page {best.page}, characters {best.start} to {best.end}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    parser.add_argument("--pdf", type=Path, help="a file of your own; asks for questions")
    parser.add_argument("--nf4", action="store_true", help="weights in 4 bits")
    options = parser.parse_args()

    llm = Aquila2(
        options.model,
        temperature=0,
        max_tokens=512,
        quantization="nf4" if options.nf4 else None,
    )
    # As BAAI advises for these models; elsewhere the file is read once for all questions.
    order = "question_first" if options.model.lower().endswith("16k") else "document_first"
    if options.pdf is not None:
        document = open_pdf(llm, options.pdf, order)
        for question in typed():
            ask(document, question)
        return
    for name, questions in QUESTIONS.items():
        document = open_pdf(llm, FOLDER / name, order)
        for question in questions:
            ask(document, question)


if __name__ == "__main__":
    main()
