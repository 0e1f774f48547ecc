"""RAG end to end: LlamaIndex's own engines on the demo model, offline."""

from __future__ import annotations

import pytest
from llama_index.core import Document, Settings, SummaryIndex, VectorStoreIndex
from llama_index.core.chat_engine import CondensePlusContextChatEngine, SimpleChatEngine

from llamaindex_aquila2 import Aquila2
from tests.llamaindex.support import MakeLLM, NGramEmbedding

FACTS = [
    "Project Falcon was started by Lena Brandt. Its code is Q7-Green.",
    "Project Harbour was started by Omar Reyes. Its code is B2-Violet.",
    "王芳住在上海。她的电话是 58213。",
    "李强住在成都。他的电话是 90417。",
]
QUESTIONS = {
    "Project Falcon code": FACTS[0],
    "Project Harbour: who started it?": FACTS[1],
    "王芳的电话": FACTS[2],
    "李强住在哪里？": FACTS[3],
}


@pytest.fixture
def rag_llm(make_llm: MakeLLM) -> Aquila2:
    """The default model of LlamaIndex for one test."""
    return make_llm(max_tokens=32).use_as_default()


@pytest.fixture
def vectors(rag_llm: Aquila2) -> VectorStoreIndex:
    """Four facts behind a real, small embedding."""
    return VectorStoreIndex.from_documents(
        [Document(text=fact) for fact in FACTS],
        embed_model=NGramEmbedding(),
        transformations=[rag_llm.node_parser(chunk_size=64)],
    )


class TestHRag:
    @pytest.mark.parametrize("question", QUESTIONS)
    def test_a_vector_index_finds_the_fact_and_asks_the_model(
        self, vectors: VectorStoreIndex, question: str
    ) -> None:
        """A9: offline from splitting to answering, in both languages."""
        response = vectors.as_query_engine(similarity_top_k=1).query(question)
        assert response.source_nodes[0].node.get_content() == QUESTIONS[question]
        assert str(response).strip()

    async def test_sync_async_and_streamed_queries_agree(self, vectors: VectorStoreIndex) -> None:
        engine = vectors.as_query_engine(similarity_top_k=1)
        streaming = vectors.as_query_engine(similarity_top_k=1, streaming=True)
        question = "王芳的电话"
        whole = str(engine.query(question))
        assert str(await engine.aquery(question)) == whole
        assert "".join(streaming.query(question).response_gen) == whole
        astreamed = await streaming.aquery(question)
        pieces = [piece async for piece in astreamed.async_response_gen()]
        assert "".join(pieces) == whole

    @pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize"])
    async def test_a_summary_index_answers_in_every_mode(
        self, rag_llm: Aquila2, mode: str
    ) -> None:
        index = SummaryIndex.from_documents([Document(text=fact) for fact in FACTS])
        engine = index.as_query_engine(response_mode=mode, use_async=mode == "tree_summarize")
        assert str(engine.query("Who started Project Falcon?")).strip()
        assert str(await engine.aquery("Who started Project Falcon?")).strip()

    def test_chat_engines_keep_within_the_window(
        self, vectors: VectorStoreIndex, rag_llm: Aquila2
    ) -> None:
        """Stock memory overflows a small window after a few turns; chat_memory does not."""
        engines = [
            SimpleChatEngine.from_defaults(llm=rag_llm, memory=rag_llm.chat_memory()),
            CondensePlusContextChatEngine.from_defaults(
                vectors.as_retriever(similarity_top_k=1), llm=rag_llm, memory=rag_llm.chat_memory()
            ),
        ]
        for engine in engines:
            for turn in range(10):
                answer = engine.chat(f"Turn {turn}. " + "Tell me about Project Falcon. " * 8)
                assert isinstance(str(answer), str)
            streamed = engine.stream_chat("What is its code?")
            assert "".join(streamed.response_gen) == str(streamed)

    def test_defaults_are_set_only_when_asked(self, make_llm: MakeLLM) -> None:
        before = vars(Settings).copy()
        llm = make_llm()
        assert vars(Settings) == before
        llm.use_as_default()
        assert Settings.llm is llm
        assert Settings.tokenizer("Hello 世界") == llm.tokenizer_fn("Hello 世界")
