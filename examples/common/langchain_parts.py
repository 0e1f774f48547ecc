"""Retrieval for LangChain: the examples' embedding, and words and vectors as one retriever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_qdrant import QdrantVectorStore
from pydantic import PrivateAttr

from common.embeddings import DEFAULT, load_embedder
from common.folder import Passage
from common.ranking import BM25, fuse


class Embedding(Embeddings):
    """An ``Embedder`` as LangChain wants it."""

    def __init__(self, name: str = DEFAULT) -> None:
        self._embedder = load_embedder(name)

    def embed_query(self, text: str) -> list[float]:
        """See ``Embeddings``."""
        return self._embedder.queries([text])[0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """See ``Embeddings``."""
        return self._embedder.passages(texts)


class Hybrid(BaseRetriever):
    """Passages by BM25 and by vectors, the two rankings fused."""

    top_k: int = 1
    each: int = 8
    _passages: Sequence[Passage] = PrivateAttr()
    _words: BM25 = PrivateAttr()
    _store: QdrantVectorStore = PrivateAttr()

    @classmethod
    def over(cls, passages: Sequence[Passage], embedding: Embeddings, **fields: Any) -> Self:
        """Index passages, in memory; ``path=`` instead of ``location=`` would keep them."""
        found = cls(**fields)
        found._passages = passages
        found._words = BM25([passage.text for passage in passages])
        found._store = QdrantVectorStore.from_texts(
            [passage.text for passage in passages],
            embedding,
            metadatas=[{"place": place} for place in range(len(passages))],
            location=":memory:",
        )
        return found

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        near = [
            document.metadata["place"]
            for document in self._store.similarity_search(query, k=self.each)
        ]
        places = fuse([self._words.rank(query, self.each), near])[: self.top_k]
        return [as_document(self._passages[place]) for place in places]


def as_document(passage: Passage) -> Document:
    """A passage as a document that knows where it stands."""
    place = {"source": passage.source, "start": passage.start, "end": passage.end}
    return Document(passage.text, id=passage.id, metadata=place)
