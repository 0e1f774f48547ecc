"""Questions about one document with LlamaIndex: a query engine and a chat engine.

python examples/llamaindex_qa.py [--model AquilaChat2-7B]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llama_index.core import Document, SummaryIndex
from llama_index.core.llms import ChatMessage

from llamaindex_aquila2 import Aquila2

FOLDER = Path(__file__).parent / "documents"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")

    llm = Aquila2(model=parser.parse_args().model, temperature=0, max_tokens=64)
    text = (FOLDER / "product_zh.txt").read_text("utf-8")
    engine = SummaryIndex.from_documents([Document(text=text)]).as_query_engine(llm=llm)
    for question in ["这款灯的设计师是谁？", "这款灯的价格是多少？"]:
        print(f"{question}\n  {engine.query(question)}")

    message = ChatMessage(
        role="user",
        content="The password of the printer is KX-4471. What is the password of the printer?",
    )
    print(message.content, "\n  ", end="")
    for chunk in llm.stream_chat([message]):
        print(chunk.delta, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
