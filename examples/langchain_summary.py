"""A document longer than the context with LangChain: its parts read at once, then put together.

A larger model is asked for a summary. aquila2-demo only looks things up, so it is asked something
instead, and parts that do not know are left out; the way is the same.

python examples/langchain_summary.py [--model AquilaChat2-7B] [--document report.txt]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from aquila2_runtime import Aquila2Runtime
from langchain_aquila2 import ChatAquila2

FOLDER = Path(__file__).parent / "documents"
SUMMARIZE = {"en": "Summarize the text in one sentence.", "zh": "请用一句话概括这段文字。"}
LOOK_UP = {"en": "What is the telephone number of the museum?", "zh": "图书馆的电话是多少？"}
EMPTY = ("I don't know", "不知道")
ANSWER = {True: 64, False: 256}  # tokens of an answer, by whether the demo gives it


def parts(runtime: Aquila2Runtime, text: str, most: int) -> list[str]:
    """Paragraphs put together as long as they have at most so many tokens."""
    found = [""]
    for paragraph in text.split("\n\n"):
        longer = f"{found[-1]}\n\n{paragraph}".strip()
        if found[-1] and runtime.count_tokens(longer) > most:
            found.append(paragraph)
        else:
            found[-1] = longer
    return found


def summarize(llm: ChatAquila2, runtime: Aquila2Runtime, text: str, asked: str, most: int) -> str:
    """Map: one request a part, computed together. Reduce: the same over what came out."""
    # A paragraph that is too long loses its middle instead of stopping everything.
    chain = (
        ChatPromptTemplate.from_template("{text}\n\n{asked}")
        | llm.bind(fit="middle")
        | StrOutputParser()
    )
    while len(texts := parts(runtime, text, most)) > 1:
        answers = chain.batch([{"text": part, "asked": asked} for part in texts])
        kept = [answer for answer in answers if not answer.startswith(EMPTY)]
        print(f"  {len(texts)} parts, {len(kept)} with an answer")
        shorter = "\n\n".join(kept)
        if not kept or len(shorter) >= len(text):
            return shorter or answers[0]
        text = shorter
    return chain.invoke({"text": text, "asked": asked})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    parser.add_argument("--document", type=Path, help="a text of your own")
    options = parser.parse_args()

    demo = options.model == "aquila2-demo"
    with Aquila2Runtime.load(options.model) as runtime:
        llm = ChatAquila2.from_runtime(runtime, temperature=0, max_tokens=ANSWER[demo])
        # aquila2-demo reads short parts better.
        most = 256 if demo else runtime.info.max_model_len - ANSWER[demo] - 256
        for language, asked in (LOOK_UP if demo else SUMMARIZE).items():
            paths = [options.document] if options.document else FOLDER.glob(f"*_{language}.txt")
            text = "\n\n".join(path.read_text("utf-8") for path in sorted(paths))
            print(f"> {asked} ({runtime.count_tokens(text)} tokens)")
            print(f"  {summarize(llm, runtime, text, asked, most)}")


if __name__ == "__main__":
    main()
