"""Questions about a folder or a PDF file with LangChain: find the passages, fill the prompt, cite.

Passages are found by BM25 over words and pairs of Chinese characters and by vectors, in an embedded
store; the two rankings are fused.

python examples/langchain_rag.py [--model AquilaChat2-7B-16K] [--nf4] [--pdf contract.pdf]
                                 [--embedding BAAI/bge-m3]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common.console import typed
from common.embeddings import DEFAULT
from common.folder import read_folder
from common.langchain_parts import Embedding, Hybrid
from common.pdf import pdf_passages
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_aquila2 import ChatAquila2

QUESTIONS = ["图书馆的无线网密码是什么？", "How much does a ticket cost?", "这款灯的价格是多少？"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    parser.add_argument("--nf4", action="store_true", help="weights in 4 bits")
    parser.add_argument("--pdf", type=Path, help="a file of your own; asks for questions")
    parser.add_argument("--embedding", default=DEFAULT, help="or a BGE model")
    options = parser.parse_args()

    demo = options.model == "aquila2-demo"
    llm = ChatAquila2(
        model=options.model,
        temperature=0,
        max_tokens=64 if demo else 512,
        quantization="nf4" if options.nf4 else None,
    )
    wide = options.model.lower().endswith("16k")
    # BAAI advises for the 16K models that the question comes first.
    order = "{question}\n\n{context}" if wide else "{context}\n\n{question}"
    # 400 characters are some 240 tokens of Chinese: four passages leave room in 2,048.
    top_k = 1 if demo else 20 if wide else 4
    passages = pdf_passages(options.pdf) if options.pdf else read_folder()
    if not passages:
        parser.error(f"{options.pdf} has no text; scanned pages need OCR first")
    embedding = Embedding(options.embedding)
    retriever = Hybrid.over(passages, embedding, top_k=top_k, each=max(8, top_k))
    chain = ChatPromptTemplate.from_template(order) | llm | StrOutputParser()
    for question in typed() if options.pdf else QUESTIONS:
        found = retriever.invoke(question)
        print(f"{question}\n  ", end="")
        context = "\n\n".join(passage.page_content for passage in found)
        for piece in chain.stream({"context": context, "question": question}):
            print(piece, end="", flush=True)
        for place in (passage.metadata for passage in found):
            print(f" [{place['source']}] characters {place['start']} to {place['end']}")


if __name__ == "__main__":
    main()
