"""Retrieval for LlamaIndex: the examples' embedding and BM25 as its classes. It knows no store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle, TextNode

from common.embeddings import DEFAULT, Embedder, load_embedder
from common.folder import Passage
from common.ranking import BM25


class Embedding(BaseEmbedding):
    """An ``Embedder`` as LlamaIndex wants it."""

    _embedder: Embedder = PrivateAttr()

    def __init__(self, name: str = DEFAULT, **fields: Any) -> None:
        super().__init__(model_name=name, **fields)
        self._embedder = load_embedder(name)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embedder.queries([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embedder.passages([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embedder.passages(texts)


class WordRetriever(BaseRetriever):
    """Nodes by BM25; finds names and numbers that vectors blur."""

    def __init__(self, nodes: Sequence[BaseNode], top_k: int = 4) -> None:
        super().__init__()
        self._nodes = nodes
        self._words = BM25([node.get_content() for node in nodes])
        self._top_k = top_k

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        ranked = self._words.rank(query_bundle.query_str, self._top_k)
        return [NodeWithScore(node=self._nodes[p], score=1 / (1 + n)) for n, p in enumerate(ranked)]


def as_node(passage: Passage) -> TextNode:
    """A passage as a node that the model is shown without its metadata."""
    return TextNode(
        id_=passage.id,
        text=passage.text,
        start_char_idx=passage.start,
        end_char_idx=passage.end,
        metadata={"source": passage.source},
        excluded_llm_metadata_keys=["source"],
        excluded_embed_metadata_keys=["source"],
    )
