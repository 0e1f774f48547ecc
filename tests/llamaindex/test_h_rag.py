"""RAG: LlamaIndex's process-wide settings; engines from end to end are in the suite."""

from __future__ import annotations

from llama_index.core import Settings

from tests.llamaindex.support import MakeLLM


class TestHRag:
    def test_defaults_are_set_only_when_asked(self, make_llm: MakeLLM) -> None:
        before = vars(Settings).copy()
        llm = make_llm()
        assert vars(Settings) == before
        llm.use_as_default()
        assert Settings.llm is llm
        assert Settings.tokenizer("Hello 世界") == llm.tokenizer_fn("Hello 世界")
