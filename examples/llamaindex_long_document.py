"""Many questions about one document, in English and Chinese: read once, or by passages.

python examples/llamaindex_long_document.py [--model AquilaChat2-7B] [--document contract.txt]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common.console import typed

from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.long_document import LongDocument

FOLDER = Path(__file__).parent / "documents"
DOCUMENTS = {
    "library_en.txt": ["Who is the head librarian?", "When does the library open?"],
    "library_zh.txt": ["图书馆的馆长是谁？", "图书馆几点开门？"],
}


def tell(stage: str, done: int, total: int) -> None:
    print(f"  [{stage}: {done} of {total} tokens]")


def ask(document: LongDocument, question: str) -> None:
    print(f"> {question}\n  ", end="")
    for answer in document.stream(question):
        print(answer.delta, end="", flush=True)
    usage = answer.raw["usage"]
    print(f"\n  {usage['prompt_tokens']} tokens, {usage['cached_tokens']} of them cached")
    for source in answer.sources[:1]:
        page = f"page {source.page}, " if source.page else ""
        print(f"  {page}characters {source.start} to {source.end}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    parser.add_argument("--document", type=Path, help="a text of your own; asks for questions")
    options = parser.parse_args()

    llm = Aquila2(options.model, temperature=0, max_tokens=512 if options.document else 64)
    if options.document is not None:
        document = LongDocument(llm, options.document.read_text("utf-8"), progress=tell)
        document.read()
        for question in typed():
            ask(document, question)
        return
    for name, questions in DOCUMENTS.items():
        document = LongDocument(llm, (FOLDER / name).read_text("utf-8"))
        print(f"{name}: {document.tokens} tokens, read whole")
        for question in questions:
            ask(document, question)

    # All of the documents many times over: more than the context holds.
    texts = [path.read_text("utf-8") for path in sorted(FOLDER.glob("*.txt"))]
    pages = LongDocument(llm, texts * 8, top_k=2, passage_tokens=128)
    print(f"\nTogether: {pages.tokens} tokens, of {llm.metadata.context_window} at a time")
    ask(pages, "Who is the director of the museum?")
    ask(pages, "图书馆的无线网密码是什么？")


if __name__ == "__main__":
    main()
