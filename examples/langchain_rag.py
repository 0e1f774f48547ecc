"""Questions about a folder with LangChain: find the passage, fill the prompt, stream, cite.

Passages are found by BM25 over words and pairs of Chinese characters and by vectors, in an embedded
store; the two rankings are fused.

python examples/langchain_rag.py [--model AquilaChat2-7B] [--embedding BAAI/bge-m3]
"""

from __future__ import annotations

import argparse

from common.embeddings import DEFAULT
from common.folder import read_folder
from common.langchain_parts import Embedding, Hybrid
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_aquila2 import ChatAquila2

QUESTIONS = ["图书馆的无线网密码是什么？", "How much does a ticket cost?", "这款灯的价格是多少？"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    parser.add_argument("--embedding", default=DEFAULT, help="or a BGE model")
    options = parser.parse_args()

    llm = ChatAquila2(model=options.model, temperature=0, max_tokens=64)
    prompt = ChatPromptTemplate.from_template("{context}\n\n{question}")
    retriever = Hybrid.over(read_folder(), Embedding(options.embedding), top_k=1)
    chain = prompt | llm | StrOutputParser()
    for question in QUESTIONS:
        [passage] = retriever.invoke(question)
        print(f"{question}\n  ", end="")
        for piece in chain.stream({"context": passage.page_content, "question": question}):
            print(piece, end="", flush=True)
        place = passage.metadata
        print(f" [{place['source']}] characters {place['start']} to {place['end']}")


if __name__ == "__main__":
    main()
