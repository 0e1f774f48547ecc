"""A router with LlamaIndex: which of several documents a question is about, then the answer.

The choice is the nearest description's, by vectors; with --by-model it is the model's own, held to
one of the documents by a grammar, which asks for a larger model than aquila2-demo.

python examples/llamaindex_router.py [--model AquilaChat2-7B --by-model]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from common.llamaindex_parts import Embedding
from llama_index.core import Document, PromptTemplate, SummaryIndex
from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.schema import QueryBundle
from llama_index.core.selectors import EmbeddingSingleSelector
from llama_index.core.tools import QueryEngineTool, ToolMetadata
from pydantic import create_model

from llamaindex_aquila2 import Aquila2

FOLDER = Path(__file__).parent / "documents"
ABOUT = {
    "library_zh": "图书馆的通知：开放时间、馆长、借书、电话、密码",
    "museum_en": "The museum of clocks: director, opening hours, tickets, telephone number",
    "product_zh": "产品说明，一款灯：设计师、价格、颜色、保修",
}
QUESTIONS = ["图书馆的馆长是谁？", "Who is the director of the museum?", "这款灯的价格是多少？"]
CHOOSE = PromptTemplate("{about}\n\nWhich document is this question about? {question}")


class ChosenByModel(BaseSelector):
    """Lets the model choose; whatever it says is one of the documents."""

    def __init__(self, llm: Aquila2) -> None:
        self._llm = llm

    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        names = [choice.get_name() for choice in choices]
        one_of: Any = StrEnum("Document", names)
        answer: Any = self._llm.structured_predict(
            create_model("Choice", document=(one_of, ...)),
            CHOOSE,
            about="\n".join(f"{choice.get_name()}: {choice.description}" for choice in choices),
            question=query.query_str,
        )
        chosen = names.index(answer.document.name)
        return SelectorResult(selections=[SingleSelection(index=chosen, reason="the model's")])

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        return self._select(choices, query)

    def _get_prompts(self) -> dict[str, Any]:
        return {"choose": CHOOSE}

    def _update_prompts(self, prompts: dict[str, Any]) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    parser.add_argument("--by-model", action="store_true", help="let the model choose")
    options = parser.parse_args()

    llm = Aquila2(options.model, temperature=0, max_tokens=64)
    tools = []
    for name, about in ABOUT.items():
        index = SummaryIndex.from_documents(
            [Document(text=(FOLDER / f"{name}.txt").read_text("utf-8"))],
            transformations=[llm.node_parser()],
        )
        engine = index.as_query_engine(llm=llm)
        tools.append(QueryEngineTool.from_defaults(engine, name=name, description=about))
    by_vectors = EmbeddingSingleSelector.from_defaults(embed_model=Embedding())
    router = RouterQueryEngine.from_defaults(
        tools, llm=llm, selector=ChosenByModel(llm) if options.by_model else by_vectors
    )
    for question in QUESTIONS:
        response = router.query(question)
        [chosen] = response.metadata["selector_result"].selections
        print(f"> {question}\n  {response} [{tools[chosen.index].metadata.name}]")


if __name__ == "__main__":
    main()
