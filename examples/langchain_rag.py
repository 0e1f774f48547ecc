"""Questions about a folder with LangChain: find the passage, fill the prompt, stream, cite.

Passages are found by BM25 over words and pairs of Chinese characters, which needs no second model
and no network; put your own retriever in its place.

python examples/langchain_rag.py [--model AquilaChat2-7B]
"""

from __future__ import annotations

import argparse
import math
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever

from langchain_aquila2 import ChatAquila2

FOLDER = Path(__file__).parent / "documents"
QUESTIONS = ["图书馆的无线网密码是什么？", "How much does a ticket cost?", "这款灯的价格是多少？"]


def passages() -> list[Document]:
    """Each paragraph of each document under its title."""
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        title, *paragraphs = path.read_text("utf-8").strip().split("\n\n")
        found += [
            Document(f"{title}\n{text}", metadata={"source": path.name}) for text in paragraphs
        ]
    return found


def pieces(text: str) -> list[str]:
    """Words, and pairs of Chinese characters."""
    pairs = [a + b for a, b in pairwise(text) if a > "\u3000" and b > "\u3000"]
    return re.findall(r"[a-z0-9]+", text.lower()) + pairs


class BM25(BaseRetriever):
    """Passages by how many of the question's rare pieces they hold."""

    passages: list[Document]

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        counts = [Counter(pieces(passage.page_content)) for passage in self.passages]
        mean = sum(map(Counter.total, counts)) / len(counts)

        def score(own: Counter[str]) -> float:
            found = 0.0
            for piece in set(pieces(query)) & own.keys():
                holders = sum(piece in other for other in counts)
                rarity = math.log(1 + (len(counts) - holders + 0.5) / (holders + 0.5))
                found += rarity * own[piece] * 2.5 / (
                    own[piece] + 1.5 * (0.25 + 0.75 * own.total() / mean)
                )  # fmt: skip
            return found

        best = max(range(len(counts)), key=lambda place: score(counts[place]))
        return [self.passages[best]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")

    llm = ChatAquila2(model=parser.parse_args().model, temperature=0, max_tokens=64)
    prompt = ChatPromptTemplate.from_template("{context}\n\n{question}")
    retriever = BM25(passages=passages())
    chain = prompt | llm | StrOutputParser()
    for question in QUESTIONS:
        [passage] = retriever.invoke(question)
        print(f"{question}\n  ", end="")
        for piece in chain.stream({"context": passage.page_content, "question": question}):
            print(piece, end="", flush=True)
        print(f" [{passage.metadata['source']}]")


if __name__ == "__main__":
    main()
