"""H. RAG: LlamaIndex's own engines from splitting to answering, in both languages, offline."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from llama_index.core import Document, SummaryIndex, VectorStoreIndex

from llamaindex_aquila2.conformance.suite import Suite
from llamaindex_aquila2.conformance.texts import FACTS, QUESTIONS, NGramEmbedding


class RagTests(Suite):
    """Point 22."""

    def _index(self) -> VectorStoreIndex:
        self.prepare(self.at_most(24))
        documents = [Document(text=fact) for fact in FACTS]
        return VectorStoreIndex.from_documents(documents, embed_model=NGramEmbedding())

    @pytest.mark.parametrize("question", QUESTIONS)
    def test_h22_a_vector_index_finds_the_fact_and_asks_the_model(self, question: str) -> None:
        """In English and in Chinese."""
        response = self._index().as_query_engine(similarity_top_k=1).query(question)
        assert response.source_nodes[0].node.get_content() == QUESTIONS[question]
        assert str(response).strip()

    def test_h22_sync_async_and_streamed_queries_agree(self) -> None:
        """One text, four ways."""
        index, question = self._index(), "王芳的电话"
        engine = index.as_query_engine(similarity_top_k=1)
        streaming = index.as_query_engine(similarity_top_k=1, streaming=True)
        whole = str(engine.query(question))
        asked: Any = streaming.query(question)
        assert "".join(asked.response_gen) == whole

        async def apieces() -> list[str]:
            astreamed: Any = await streaming.aquery(question)
            return [piece async for piece in astreamed.async_response_gen()]

        async def awhole() -> str:
            return str(await engine.aquery(question))

        assert asyncio.run(awhole()) == whole
        assert "".join(asyncio.run(apieces())) == whole

    @pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize"])
    def test_h22_a_summary_index_answers_in_every_mode(self, mode: str) -> None:
        """Sync, and by LlamaIndex's own async."""
        self.prepare(self.at_most(24))
        index = SummaryIndex.from_documents([Document(text=fact) for fact in FACTS])
        engine = index.as_query_engine(response_mode=mode, use_async=mode == "tree_summarize")
        whole = str(engine.query("Who started Project Falcon?"))
        assert whole.strip()

        async def again() -> str:
            return str(await engine.aquery("Who started Project Falcon?"))

        assert asyncio.run(again()) == whole
