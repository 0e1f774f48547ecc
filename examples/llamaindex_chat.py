"""A conversation about a folder with LlamaIndex: it remembers, looks things up, and streams.

A follow-up question is first rewritten so that it stands alone; then passages are found for it.

python examples/llamaindex_chat.py [--model AquilaChat2-7B]
"""

from __future__ import annotations

import argparse

from common.folder import read_folder
from common.llamaindex_parts import WordRetriever, as_node
from llama_index.core.chat_engine import CondensePlusContextChatEngine

from llamaindex_aquila2 import Aquila2

SAID = [
    "Who is the director of the museum?",
    "What is its telephone number?",
    "图书馆的馆长是谁？",
    "它的电话是多少？",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")

    # Chat engines pack their prompts by the default prompt helper.
    llm = Aquila2(parser.parse_args().model, temperature=0, max_tokens=64).use_as_default()
    nodes = [as_node(passage) for passage in read_folder()]
    engine = CondensePlusContextChatEngine.from_defaults(
        WordRetriever(nodes, top_k=1),
        llm=llm,
        memory=llm.chat_memory(),
        # The default prompts are long; a small context has better uses.
        context_prompt="{context_str}",
    )
    for text in SAID:
        print(f"> {text}\n  ", end="")
        response = engine.stream_chat(text)
        for piece in response.response_gen:
            print(piece, end="", flush=True)
        print(f" [{response.source_nodes[0].metadata['source']}]")
    print(f"{len(engine.chat_history)} messages remembered")


if __name__ == "__main__":
    main()
