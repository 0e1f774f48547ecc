"""Questions about a folder with LlamaIndex: words and vectors together, in a store that lasts.

The store is a directory: Qdrant, in this process. What is in it is not embedded again; passages
that are new or gone are added or removed.

python examples/llamaindex_hybrid.py [--model AquilaChat2-7B] [--embedding BAAI/bge-m3]
    [--store DIRECTORY]
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

from common.embeddings import DEFAULT
from common.folder import read_folder
from common.llamaindex_parts import Embedding, WordRetriever, as_node
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.retrievers.fusion_retriever import FUSION_MODES
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

from llamaindex_aquila2 import Aquila2

QUESTIONS = [
    "图书馆的无线网密码是什么？",
    "How much does a ticket cost?",
    "这款灯的价格是多少？",
    "Who is the head librarian?",
]


def update(client: QdrantClient, embedding: Embedding) -> VectorStoreIndex:
    """Bring the store up to date with the folder."""
    name = f"documents-{embedding.model_name.replace('/', '-')}"
    # Payload indexes are a server's; the integration asks for them all the same.
    warnings.filterwarnings("ignore", message="Payload indexes")
    store = QdrantVectorStore(name, client=client)
    nodes = {passage.id: as_node(passage) for passage in read_folder()}
    known = set()
    if client.collection_exists(name):
        known = {str(point.id) for point in client.scroll(name, limit=100_000)[0]}
    new = [node for key, node in nodes.items() if key not in known]
    print(f"{len(known)} passages in the store, {len(new)} new, {len(known - nodes.keys())} gone")
    if gone := list(known - nodes.keys()):
        store.delete_nodes(gone)
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(new, storage_context=context, embed_model=embedding)


def ask(client: QdrantClient, embedding: Embedding, llm: Aquila2, questions: list[str]) -> None:
    """Answer from what words and vectors find, the two rankings fused."""
    index = update(client, embedding)
    retriever = QueryFusionRetriever(
        [
            index.as_retriever(similarity_top_k=4),
            WordRetriever([as_node(passage) for passage in read_folder()], top_k=4),
        ],
        llm=llm,
        mode=FUSION_MODES.RECIPROCAL_RANK,
        num_queries=1,  # the question as it is, not rewritten
        similarity_top_k=1,
        use_async=False,
    )
    engine = RetrieverQueryEngine.from_args(retriever, llm=llm)
    for question in questions:
        response = engine.query(question)
        print(f"> {question}\n  {response}")
        for found in response.source_nodes:
            node = found.node
            place = f"characters {node.start_char_idx} to {node.end_char_idx}"
            print(f"  [{node.metadata['source']}, {place}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="aquila2-demo", help="a released name or a directory")
    parser.add_argument("--embedding", default=DEFAULT, help="or a BGE model")
    parser.add_argument("--store", type=Path, help="where the vectors stay; else nowhere")
    options = parser.parse_args()

    llm = Aquila2(options.model, temperature=0, max_tokens=64)
    embedding = Embedding(options.embedding)
    with tempfile.TemporaryDirectory() as nowhere:
        # The second time is what a restart finds.
        for questions in (QUESTIONS[:2], QUESTIONS[2:]):
            client = QdrantClient(path=str(options.store or nowhere))
            try:
                ask(client, embedding, llm, questions)
            finally:
                client.close()


if __name__ == "__main__":
    main()
