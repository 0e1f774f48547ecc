"""Questions about several documents with LangChain: pick the passage, fill the prompt, stream.

The passages are picked by the characters they share with the question, which needs no second model
and no network; put your own retriever in its place.

python examples/langchain_rag.py [--model AquilaChat2-7B]
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

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


def pieces(text: str) -> set[str]:
    """Words, and pairs of Chinese characters."""
    words = set(text.lower().replace("?", " ").replace(".", " ").replace(",", " ").split())
    pairs = {a + b for a, b in pairwise(text) if a > "\u3000" and b > "\u3000"}
    return words | pairs


def best(question: str) -> str:
    asked = pieces(question)
    return max(
        passages(), key=lambda passage: len(asked & pieces(passage.page_content))
    ).page_content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")

    llm = ChatAquila2(model=parser.parse_args().model, temperature=0, max_tokens=64)
    prompt = ChatPromptTemplate.from_template("{context}\n\n{question}")
    chain = (
        {"context": RunnableLambda(best), "question": RunnablePassthrough()}
        | prompt
        | llm
        | StrOutputParser()
    )
    for question in QUESTIONS:
        print(f"{question}\n  ", end="")
        for piece in chain.stream(question):
            print(piece, end="", flush=True)
        print()


if __name__ == "__main__":
    main()
