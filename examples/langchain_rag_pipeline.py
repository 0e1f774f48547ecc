"""BAAI's own retrieval pipeline for Aquila, rebuilt in LangChain: rewrite, fuse, rerank, cite.

The question is asked in three more ways. Each is looked up by words and by vectors; the rankings
are fused (reciprocal ranks, k=60), the ten best are reranked, and the best three are shown to the
model, numbered. A small model rewrites and cites badly: the question itself is always among the
queries, and a citation is believed only where the passage shares words with the answer.

python examples/langchain_rag_pipeline.py [--model AquilaChat2-7B] [--embedding BAAI/bge-m3]
    [--reranker BAAI/bge-reranker-large]
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

from common.embeddings import DEFAULT, load_embedder
from common.folder import read_folder
from common.langchain_parts import Embedding, Hybrid
from common.ranking import BM25, fuse
from common.reranking import Scorer, by_best_sentence, by_cross_encoder
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from langchain_aquila2 import ChatAquila2

REWRITES, CANDIDATES, SHOWN = 3, 10, 3
REWRITE = "Write {number} other ways to ask this question, one a line.\n\n{question}"
ANSWER = "{passages}\n\n{question}"
CITE = "Cite the passages that the answer rests on, like [1].\n\n"
QUESTIONS = [
    "图书馆的无线网密码是什么？",
    "Who is the director of the museum?",
    "这款灯的设计师是谁？",
]


def rewriting(llm: ChatAquila2) -> Callable[[str], list[str]]:
    """The question and a few other ways to ask it."""
    chain = ChatPromptTemplate.from_template(REWRITE) | llm | StrOutputParser()

    def rewrite(question: str) -> list[str]:
        lines = chain.invoke({"number": REWRITES, "question": question}).splitlines()
        others = [re.sub(r"^\W*\d*[.)、]?\s*", "", line) for line in lines]
        return list(dict.fromkeys([question, *filter(None, others[:REWRITES])]))

    return rewrite


def finding(retriever: Hybrid, score: Scorer, rewrite: Callable[[str], list[str]]) -> Any:
    """The best passages for a question, best first."""

    def find(question: str) -> list[Document]:
        known: dict[str, Document] = {}
        rankings = []
        for found in retriever.batch(rewrite(question)):
            rankings.append([str(document.id) for document in found])
            known |= {str(document.id): document for document in found}
        candidates = [known[key] for key in fuse(rankings)][:CANDIDATES]
        scores = score(question, [document.page_content for document in candidates])
        order = sorted(range(len(candidates)), key=lambda place: -scores[place])
        return [candidates[place] for place in order[:SHOWN]]

    return RunnableLambda(find)


def numbered(given: dict[str, Any]) -> str:
    return "\n\n".join(
        f"[{number}] {document.page_content}"
        for number, document in enumerate(given["documents"], start=1)
    )


def cited(answer: str, documents: list[Document]) -> list[int]:
    """The passages an answer names that share words with it; if none do, the one that does most."""
    named = {int(number) for number in re.findall(r"\[(\d+)\]", answer)}
    said = re.sub(r"\[\d+\]", "", answer)
    words = BM25([document.page_content for document in documents])
    sharing = [place + 1 for place in words.rank(said, len(documents))]
    return sorted(named.intersection(sharing)) or sharing[:1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    parser.add_argument("--embedding", default=DEFAULT, help="or a BGE model")
    parser.add_argument("--reranker", help="a BGE reranker; by default the best sentence's vector")
    options = parser.parse_args()

    llm = ChatAquila2(model=options.model, temperature=0, max_tokens=64)
    score = (
        by_cross_encoder(options.reranker)
        if options.reranker
        else by_best_sentence(load_embedder(options.embedding))
    )
    retriever = Hybrid.over(read_folder(), Embedding(options.embedding), top_k=CANDIDATES)
    prompt = ChatPromptTemplate.from_template(
        ANSWER if options.model == "aquila2-demo" else CITE + ANSWER
    )
    chain = (
        {"documents": finding(retriever, score, rewriting(llm)), "question": RunnablePassthrough()}
        | RunnablePassthrough.assign(passages=numbered)
        | RunnablePassthrough.assign(answer=prompt | llm | StrOutputParser())
    )
    for question in QUESTIONS:
        result = chain.invoke(question)
        answer = re.sub(r" *\[\d+\]", "", result["answer"])
        print(f"> {question}\n  {answer}")
        for number in cited(result["answer"], result["documents"]):
            place = result["documents"][number - 1].metadata
            print(f"  [{number}] {place['source']}, characters {place['start']} to {place['end']}")


if __name__ == "__main__":
    main()
