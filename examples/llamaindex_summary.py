"""A document longer than the context with LlamaIndex's tree_summarize: parts, then their answers.

A larger model is asked for a summary. aquila2-demo only looks things up, so it is asked something
instead, in small parts; the way is the same: every prompt takes as much as fits, and none more.

python examples/llamaindex_summary.py [--model AquilaChat2-7B] [--document report.txt]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llama_index.core import Document, PromptTemplate, Settings, SummaryIndex
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.response_synthesizers import ResponseMode

from llamaindex_aquila2 import Aquila2

FOLDER = Path(__file__).parent / "documents"
SUMMARIZE = {"en": "Summarize the text in one sentence.", "zh": "请用一句话概括这段文字。"}
LOOK_UP = {"en": "What is the telephone number of the museum?", "zh": "图书馆的电话是多少？"}


def summarize(llm: Aquila2, text: str, asked: str) -> str:
    index = SummaryIndex.from_documents(
        [Document(text=text)], transformations=[llm.node_parser(chunk_size=512)]
    )
    engine = index.as_query_engine(
        llm=llm,
        response_mode=ResponseMode.TREE_SUMMARIZE,
        summary_template=PromptTemplate("{context_str}\n\n{query_str}"),
    )
    return str(engine.query(asked))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    parser.add_argument("--document", type=Path, help="a text of your own")
    parser.add_argument("--window", type=int, help="tokens of a prompt and its answer at most")
    options = parser.parse_args()

    longest = 64 if options.model == "aquila2-demo" else 256
    llm = Aquila2(options.model, temperature=0, max_tokens=longest).use_as_default()
    counter = TokenCountingHandler(tokenizer=llm.tokenizer_fn)
    Settings.callback_manager = llm.callback_manager = CallbackManager([counter])
    # None is the model's own window.
    window = options.window or (700 if llm.model == "aquila2-demo" else None)
    Settings.prompt_helper = llm.prompt_helper()
    Settings.prompt_helper.context_window = window or llm.metadata.context_window
    for language, asked in (LOOK_UP if llm.model == "aquila2-demo" else SUMMARIZE).items():
        if options.document is not None:
            text = options.document.read_text("utf-8")
        else:
            texts = [path.read_text("utf-8") for path in sorted(FOLDER.glob(f"*_{language}.txt"))]
            text = "\n\n".join(texts * 2)
        print(f"> {asked}\n  {summarize(llm, text, asked)}")
        read = [call.prompt_token_count for call in counter.llm_token_counts]
        tokens, most = len(llm.tokenizer_fn(text)), Settings.prompt_helper.context_window
        print(f"  {tokens} tokens, in calls of {read}; {most} fit, answer included")
        counter.reset_counts()


if __name__ == "__main__":
    main()
