"""Two questions about two documents: in Chinese through LangChain, in English through LlamaIndex.

``make demo`` runs it. It needs no network: the model ships with the package. ``--model`` takes a
real checkpoint: ``python examples/demo.py --model AquilaChat2-7B``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from langchain_core.messages import HumanMessage
from llama_index.core import Document, SummaryIndex

from aquila2_runtime import Aquila2Runtime
from langchain_aquila2 import ChatAquila2
from llamaindex_aquila2 import Aquila2

DOCUMENTS = Path(__file__).parent / "documents"


def ask_langchain(runtime: Aquila2Runtime, document: str, question: str) -> None:
    llm = ChatAquila2.from_runtime(runtime, temperature=0, max_tokens=64)
    for chunk in llm.stream([HumanMessage(f"{document}\n\n{question}")]):
        print(chunk.text, end="", flush=True)
    print()


def ask_llamaindex(runtime: Aquila2Runtime, document: str, question: str) -> None:
    llm = Aquila2.from_runtime(runtime, temperature=0, max_tokens=64)
    index = SummaryIndex.from_documents([Document(text=document)])
    for piece in index.as_query_engine(llm=llm, streaming=True).query(question).response_gen:
        print(piece, end="", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    model = parser.parse_args().model

    print(f"Loading {model} …", flush=True)
    # One loaded model serves both frameworks.
    with Aquila2Runtime.load(model) as runtime:
        print(f"{runtime.info.model} on {runtime.info.device}, {runtime.info.dtype}\n")

        document = (DOCUMENTS / "library_zh.txt").read_text("utf-8")
        question = "图书馆的馆长是谁？"
        print(f"LangChain, library_zh.txt\n问：{question}\n答：", end="", flush=True)
        ask_langchain(runtime, document, question)

        document = (DOCUMENTS / "museum_en.txt").read_text("utf-8")
        question = "Who is the director of the museum?"
        print(f"\nLlamaIndex, museum_en.txt\nQ: {question}\nA: ", end="", flush=True)
        ask_llamaindex(runtime, document, question)

    if model == "aquila2-demo":
        print("\naquila2-demo is 17 MB: it looks answers up in the text it is given.")
        print("For the real ones: python examples/demo.py --model AquilaChat2-7B")


if __name__ == "__main__":
    main()
