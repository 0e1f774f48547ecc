"""How good a pipeline is, with LlamaIndex: passages found and answers right, over a question file.

Words alone, vectors alone, and both are compared: the hit rate and the mean reciprocal rank of the
passage that holds the answer, then the answers from what was found, exact and containing.

python examples/llamaindex_evaluation.py [--model AquilaChat2-7B] [--questions questions.jsonl]
"""

from __future__ import annotations

import argparse
import json
import unicodedata
from pathlib import Path
from typing import Any

from common.embeddings import DEFAULT
from common.folder import DOCUMENTS, read_folder
from common.llamaindex_parts import Embedding, WordRetriever, as_node
from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.evaluation import RetrieverEvaluator
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.retrievers.fusion_retriever import FUSION_MODES
from llama_index.core.schema import TextNode

from llamaindex_aquila2 import Aquila2

TOP_K = 2


def retrievers(llm: Aquila2, nodes: list[TextNode], embedding: str) -> dict[str, BaseRetriever]:
    """By words, by vectors, and the two fused, all with equally many passages."""
    words = WordRetriever(nodes, top_k=TOP_K)
    vectors = VectorStoreIndex(nodes, embed_model=Embedding(embedding)).as_retriever(
        similarity_top_k=TOP_K
    )
    both = QueryFusionRetriever(
        [words, vectors],
        llm=llm,
        mode=FUSION_MODES.RECIPROCAL_RANK,
        num_queries=1,
        similarity_top_k=TOP_K,
        use_async=False,
    )
    return {"words": words, "vectors": vectors, "both": both}


def plain(text: str) -> str:
    """For comparing: without case, stops and spaces."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())


def holder(nodes: list[TextNode], question: dict[str, Any]) -> list[str]:
    """The passages that hold the answer: of the question's document, those with its words."""
    return [
        node.node_id
        for node in nodes
        if node.metadata["source"] == question["source"]
        and any(answer in node.text for answer in question["answers"])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    parser.add_argument("--embedding", default=DEFAULT, help="or a BGE model")
    parser.add_argument("--questions", type=Path, default=DOCUMENTS / "questions.jsonl")
    options = parser.parse_args()

    llm = Aquila2(options.model, temperature=0, max_tokens=32)
    nodes = [as_node(passage) for passage in read_folder()]
    questions = [json.loads(line) for line in options.questions.read_text("utf-8").splitlines()]
    for name, retriever in retrievers(llm, nodes, options.embedding).items():
        evaluator = RetrieverEvaluator.from_metric_names(["hit_rate", "mrr"], retriever=retriever)
        engine = RetrieverQueryEngine.from_args(retriever, llm=llm)
        totals = dict.fromkeys(("hit_rate", "mrr", "exact", "contains"), 0.0)
        for question in questions:
            found = evaluator.evaluate(question["question"], expected_ids=holder(nodes, question))
            for metric, value in found.metric_vals_dict.items():
                totals[metric] += value
            said = plain(str(engine.query(question["question"])))
            right = [plain(answer) for answer in question["answers"]]
            totals["exact"] += said in right
            totals["contains"] += any(answer in said for answer in right)
        shares = "  ".join(f"{key} {value / len(questions):.2f}" for key, value in totals.items())
        print(f"{name:8}{shares}", flush=True)


if __name__ == "__main__":
    main()
