"""Keywords as LlamaIndex and its users write them: under other names, by name, and of a wire."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.extractors import DocumentContextExtractor
from llama_index.core.schema import Document
from llama_index.core.storage.docstore import SimpleDocumentStore

from aquila2_runtime import InvalidPromptError, InvalidSamplingParamsError
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.conformance.texts import FACTS
from tests.llamaindex.support import ENDPOINTS, QUESTION, MakeLLM, ask, usage_of


async def test_llama_index_s_context_extractor_gets_its_contexts(make_llm: MakeLLM) -> None:
    """It gives every model Anthropic's headers, logs what is refused and goes on without."""
    llm = make_llm().use_as_default()
    document, docstore = Document(text=" ".join(FACTS)), SimpleDocumentStore()
    docstore.add_documents([document])
    nodes = llm.node_parser(chunk_size=24).get_nodes_from_documents([document])
    extractor = DocumentContextExtractor(
        docstore=docstore, llm=llm, max_context_length=1_000, max_output_tokens=12
    )
    extracted = await extractor.aextract(nodes)
    assert len(nodes) > 1
    assert all(found["context"] for found in extracted)


class TestELimits:
    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    @pytest.mark.parametrize(
        "limits",
        [
            {"max_tokens": 3, "max_new_tokens": None},
            {"max_tokens": None, "num_output": 3},
            {"max_new_tokens": 3, "num_output": None},
            {"max_new_tokens": None, "num_output": 3},
        ],
    )
    def test_a_limit_counts_whatever_name_is_none_beside_it(
        self, make_llm: MakeLLM, endpoint: str, limits: dict[str, Any]
    ) -> None:
        last = ask(make_llm(max_tokens=9, ignore_eos=True), endpoint, **limits)[-1]
        assert usage_of(last)["completion_tokens"] == 3

    def test_a_field_too_and_none_alone_means_none(self, make_llm: MakeLLM) -> None:
        llm = make_llm(max_tokens=5, num_output=None)
        assert llm.max_tokens == 5
        assert make_llm(max_new_tokens=None).max_tokens is None
        assert llm.model_copy(update={"num_output": None}).max_tokens is None
        with pytest.raises(InvalidSamplingParamsError, match="They mean the same"):
            llm.model_copy(update={"max_tokens": 4, "num_output": 5})


class TestEPrompts:
    @pytest.mark.parametrize("endpoint", [name for name in ENDPOINTS if "complete" in name])
    async def test_what_is_no_text_is_refused_by_our_name_however_it_is_given(
        self, llm: Aquila2, endpoint: str
    ) -> None:
        """By keyword it met pydantic first, in the event."""
        method = getattr(llm, endpoint)
        for wrong in (7, None, [QUESTION]):
            for args, kwargs in (((wrong,), {}), ((), {"prompt": wrong})):
                with pytest.raises(InvalidPromptError, match="must be a string") as caught:
                    made = method(*args, **kwargs)
                    await made if endpoint.startswith("a") else list(made)
                assert caught.value.parameter == "prompt"

    def test_a_prompt_by_keyword_is_a_prompt(self, llm: Aquila2) -> None:
        by_name = llm.complete(prompt=QUESTION, formatted=False)
        assert by_name.text == llm.complete(QUESTION, False).text
