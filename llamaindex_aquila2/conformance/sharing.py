"""G. Sharing: copies share the weights, and what is stored holds a specification instead."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
from llama_index.core.extractors import TitleExtractor
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.llms.llm import LLM
from llama_index.core.schema import TextNode

from llamaindex_aquila2.conformance.calls import QUESTION
from llamaindex_aquila2.conformance.suite import Suite


class SharingTests(Suite):
    """Point 21."""

    def test_g21_equal_models_and_copies_share_the_weights(self) -> None:
        """By the object that holds them, or by this process's memory where one cannot tell."""
        llm = self.at_most(6)
        expected = llm.complete(QUESTION).text
        before = memory()
        others = [copy.deepcopy(llm), llm.model_copy(), llm.model_copy(deep=True), self.at_most(7)]
        assert [other.complete(QUESTION).text[: len(expected)] for other in others] == [
            expected
        ] * len(others)
        if self.weights(llm) is None:
            assert memory() <= before * 1.05
        else:
            assert all(self.weights(other) is self.weights(llm) for other in others)

    def test_g21_a_pickle_is_small_and_comes_back_to_life(self) -> None:
        """Pipelines with several workers pickle extractors that hold a model."""
        llm = self.at_most(6)
        expected = llm.complete(QUESTION).text
        data = pickle.dumps(llm)
        assert len(data) <= 100_000
        assert pickle.loads(data).complete(QUESTION).text == expected

    def test_g21_dictionaries_and_json_come_back_equal(self) -> None:
        """Without weights, and without LlamaIndex's registry of its own classes."""
        llm = self.at_most(6)
        data = llm.to_dict()
        json.dumps(data)
        assert data["class_name"] == llm.class_name()
        assert type(llm).from_dict(data).to_dict() == data
        assert type(llm).from_json(llm.to_json()).to_dict() == data

    def test_g21_transformation_hashes_are_stable(self) -> None:
        """IngestionPipeline caches by this hash."""
        nodes = [TextNode(text="One", id_="1")]

        def hashed(llm: LLM) -> str:
            return get_transformation_hash(nodes, TitleExtractor(llm=llm))

        first, second, other = map(hashed, (self.at_most(6), self.at_most(6), self.at_most(7)))
        assert first == second != other


def memory() -> int:
    """Pages of this process in memory."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        pytest.skip("this system does not tell how much memory a process has")
