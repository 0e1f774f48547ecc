"""Questions about a document as long as the model can read, with LangChain.

The document fills the context of the model in use, 4,096 tokens of aquila2-demo or 16,384 of the
16K models; facts lie at several depths. It is read once: later questions find it in the cache. The
document comes first for that; --instruction-first puts the question before it, as BAAI advises for
the 16K models, and reads it each time. A document that is longer still loses its middle, and says
so. benchmarks/longbench.py scores whole files of such tasks.

python examples/langchain_long_document.py [--model AquilaChat2-7B-16K] [--document book.txt]
"""

from __future__ import annotations

import argparse
from itertools import cycle
from pathlib import Path

from common.console import typed
from common.folder import read_folder
from langchain_core.messages import AIMessageChunk
from langchain_core.prompts import ChatPromptTemplate

from aquila2_runtime import Aquila2Runtime
from langchain_aquila2 import ChatAquila2

ANSWER, OWN_ANSWER = 32, 512
ROOM = 160  # for template, question and answer
FACTS = {
    0.1: ("The code of the garden gate is 7193.", "What is the code of the garden gate?"),
    0.5: ("张晓东住在苏州。", "张晓东住在哪里？"),
    0.9: ("The serial number of the piano is KB-4410.", "What is the serial number of the piano?"),
}


def made_up(runtime: Aquila2Runtime) -> str:
    """The folder's documents over and over, as much as fits, with the facts at their depths."""
    room = runtime.info.max_model_len - ROOM
    paragraphs: list[str] = []
    size = runtime.count_tokens("\n\n".join(fact for fact, _ in FACTS.values()))
    for passage in cycle(read_folder()):
        paragraph = passage.text.split("\n", 1)[1]
        size += runtime.count_tokens("\n\n" + paragraph)
        if size > room:
            break
        paragraphs.append(paragraph)
    for depth, (fact, _) in sorted(FACTS.items(), reverse=True):
        paragraphs.insert(round(depth * len(paragraphs)), fact)
    return "\n\n".join(paragraphs)


def tell(answer: AIMessageChunk) -> None:
    """How much of the prompt was read, how much was cached, and whether something was cut."""
    usage = answer.usage_metadata
    if usage is not None:
        cached = usage["input_token_details"].get("cache_read", 0)
        print(f"  {usage['input_tokens']} tokens, {cached} of them cached")
    for notice in answer.response_metadata.get("notices", ()):
        print(f"  {notice}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    parser.add_argument("--document", type=Path, help="a text of your own; asks for questions")
    parser.add_argument("--instruction-first", action="store_true", help="the question comes first")
    options = parser.parse_args()

    with Aquila2Runtime.load(options.model) as runtime:
        longest = OWN_ANSWER if options.document else ANSWER
        llm = ChatAquila2.from_runtime(runtime, temperature=0, max_tokens=longest, fit="middle")
        order = "{question}\n\n{text}" if options.instruction_first else "{text}\n\n{question}"
        chain = ChatPromptTemplate.from_template(order) | llm
        text = options.document.read_text("utf-8") if options.document else made_up(runtime)
        print(f"{runtime.count_tokens(text)} tokens, of {runtime.info.max_model_len}")
        questions = typed() if options.document else FACTS.values()
        for asked in questions:
            question = asked if isinstance(asked, str) else asked[1]
            print(f"> {question}\n  ", end="")
            answer = AIMessageChunk("")
            for chunk in chain.stream({"text": text, "question": question}):
                print(chunk.text, end="", flush=True)
                answer += chunk
            print()
            tell(answer)


if __name__ == "__main__":
    main()
