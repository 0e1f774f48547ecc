"""J. Questions about one document: whole and cached where it fits, by passages where not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Document
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from aquila2_runtime import (
    Aquila2Runtime,
    ContextOverflowError,
    InvalidPromptError,
    InvalidRequestError,
    Message,
)
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.long_document import DocumentAnswer, LongDocument
from tests.llamaindex.scripted import SENTENCES, scripted_runtime
from tests.llamaindex.support import MakeLLM

LIBRARY = (Path(__file__).parents[2] / "examples" / "documents" / "library_en.txt").read_text(
    "utf-8"
)
QUESTIONS = ("Who is the head librarian?", "How long is a reader's card valid?")
METHODS = ("ask", "aask", "stream", "astream")
FACT = "王芳住在上海，她的电话是 58213。"


def ask(document: LongDocument, method: str, question: str, **kwargs: Any) -> list[DocumentAnswer]:
    """All answers of any of the four methods."""

    async def aask() -> list[DocumentAnswer]:
        if method == "aask":
            return [await document.aask(question, **kwargs)]
        return [answer async for answer in document.astream(question, **kwargs)]

    if method.startswith("a") and method != "ask":
        return asyncio.run(aask())
    result = getattr(document, method)(question, **kwargs)
    return list(result) if method == "stream" else [result]


def read_ahead(document: LongDocument, method: str) -> None:
    if method == "aread":
        asyncio.run(document.aread())
    else:
        document.read()


def book() -> str:
    """Many times what the demo's context holds, with one fact in the middle."""
    filler = [f"Entry {number}. {SENTENCES[number % 2]}" for number in range(400)]
    return "\n".join([*filler[:200], FACT, *filler[200:]])


class TestJWhole:
    @pytest.mark.parametrize("method", METHODS)
    def test_the_second_question_finds_the_document_in_the_cache(
        self, make_llm: MakeLLM, method: str
    ) -> None:
        llm = make_llm(max_tokens=16)
        document = LongDocument(llm, f"{method}\n{LIBRARY}")
        assert document.tokens > 200
        first, second = (ask(document, method, question)[-1] for question in QUESTIONS)
        assert first.whole and second.whole
        assert first.raw["usage"]["cached_tokens"] < 64
        # All of it but the block in which the question begins.
        assert second.raw["usage"]["cached_tokens"] > document.tokens - 32

    @pytest.mark.parametrize("method", ["read", "aread"])
    def test_reading_ahead_leaves_nothing_to_read_but_the_question(
        self, make_llm: MakeLLM, method: str
    ) -> None:
        document = LongDocument(make_llm(max_tokens=4), f"Ahead, {method}.\n{LIBRARY}")
        read_ahead(document, method)
        usage = document.ask(QUESTIONS[0]).raw["usage"]
        assert usage["cached_tokens"] > document.tokens - 32

    @pytest.mark.parametrize("method", ["read", "aread"])
    def test_there_is_nothing_to_read_ahead_behind_a_question_or_of_too_much(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime, method: str
    ) -> None:
        llm = make_llm(max_tokens=4)
        before = demo_runtime.stats().tokens_computed
        read_ahead(LongDocument(llm, LIBRARY, order="question_first"), method)
        read_ahead(LongDocument(llm, book()), method)
        assert demo_runtime.stats().tokens_computed == before

    @pytest.mark.parametrize("method", METHODS)
    def test_the_prompt_is_the_document_and_then_the_question(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime, method: str
    ) -> None:
        llm = make_llm(max_tokens=16, system_prompt="Be brief.")
        said = f"{LIBRARY}\n\nIn one sentence.\n\n{QUESTIONS[0]}"
        other = f"In one sentence.\n\n{QUESTIONS[0]}\n\n{LIBRARY}"
        for order, text in (("document_first", said), ("question_first", other)):
            document = LongDocument(llm, LIBRARY, order=order, instruction="In one sentence.")
            expected = demo_runtime.render([Message("system", "Be brief."), Message("user", text)])
            answers = ask(document, method, QUESTIONS[0])
            assert answers[-1].raw["usage"]["prompt_tokens"] == len(expected)
            assert "".join(one.delta or "" for one in answers) in ("", answers[-1].text)
            assert answers[-1].text == ask(document, "ask", QUESTIONS[0])[0].text

    def test_the_sources_of_a_whole_document_are_where_the_answer_is(
        self, make_llm: MakeLLM
    ) -> None:
        pages = [Document(text=SENTENCES[0], metadata={"page_label": "i"}), LIBRARY]
        document = LongDocument(make_llm(max_tokens=24), pages, passage_tokens=48)
        answer = document.ask(QUESTIONS[0])
        found = [source for source in answer.sources if "Maria Silva" in source.text]
        assert found and found[0].page == "2"
        assert found[0].text == LIBRARY[found[0].start : found[0].end]
        assert ask(document, "stream", QUESTIONS[0])[0].sources == ()

    @pytest.mark.parametrize("system", [None, "You read contracts."])
    @pytest.mark.parametrize("order", ["document_first", "question_first"])
    def test_a_base_model_has_room_for_the_roles_that_plain_text_names(
        self, demo_runtime: Aquila2Runtime, order: str, system: str | None
    ) -> None:
        """What just fitted the window was refused by a few tokens."""
        runtime, engine = scripted_runtime(demo_runtime, 512, 0)
        llm = Aquila2.from_runtime(
            runtime, is_chat_model=False, max_tokens=64, system_prompt=system
        )
        whole = []
        for tokens in range(425, 446):
            text = "王" * tokens
            assert len(llm.tokenizer_fn(text)) == tokens
            whole.append(LongDocument(llm, text, order=order).ask("Why?").whole)
            assert len(engine.asked[-1].prompt_token_ids) <= 512 - 64
        assert {True, False} == set(whole)

    @pytest.mark.parametrize("method", ["read", "aread"])
    def test_reading_ahead_asks_for_one_token_whatever_the_model_s_least(
        self, demo_runtime: Aquila2Runtime, method: str
    ) -> None:
        """The constructor's min_tokens exceeded the one token, and it was refused."""
        runtime, engine = scripted_runtime(demo_runtime, 2_048, 0)
        llm = Aquila2.from_runtime(runtime, max_tokens=64, min_tokens=8)
        document = LongDocument(llm, LIBRARY)
        read_ahead(document, method)
        document.ask(QUESTIONS[0])
        assert [request.max_tokens for request in engine.asked] == [1, 64]
        assert [request.params.min_tokens for request in engine.asked] == [0, 8]


class TestJExcerpts:
    @pytest.mark.parametrize("method", METHODS)
    def test_what_does_not_fit_is_answered_from_the_passages_that_match(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime, method: str
    ) -> None:
        llm, text = make_llm(max_tokens=24), book()
        document = LongDocument(llm, text, top_k=3, passage_tokens=64)
        assert document.tokens > demo_runtime.info.max_model_len
        answer = ask(document, method, "王芳的电话是什么？")[-1]
        assert not answer.whole
        assert 0 < len(answer.sources) <= 3
        assert [one.start for one in answer.sources] == sorted(
            one.start or 0 for one in answer.sources
        )
        assert any(FACT in one.text for one in answer.sources)
        assert all(one.text == text[one.start : one.end] for one in answer.sources)
        assert "58213" in answer.text

    def test_passages_are_left_out_where_they_do_not_fit(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime
    ) -> None:
        document = LongDocument(make_llm(), book(), top_k=50, passage_tokens=200)
        answer = document.ask("Who moved to the third floor?", max_tokens=600)
        usage = answer.raw["usage"]
        assert usage["prompt_tokens"] + 600 <= demo_runtime.info.max_model_len
        assert 1 <= len(answer.sources) < 50

    def test_half_of_the_window_is_filled_with_passages_unless_told_otherwise(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime
    ) -> None:
        """Four passages were shown, of whatever a window held: 1,000 tokens of 16,384."""
        llm, text = make_llm(max_tokens=96), book()
        room = demo_runtime.info.max_model_len - 96
        answer = LongDocument(llm, text).ask("Who moved to the third floor?")
        assert len(answer.sources) == room // 2 // 256 > 4
        assert room / 3 < answer.raw["usage"]["prompt_tokens"] < room * 0.6
        large = LongDocument(llm, text, passage_tokens=900).ask("Who moved to the third floor?")
        assert len(large.sources) == 4

    def test_a_question_that_matches_nothing_is_asked_of_the_beginning(
        self, make_llm: MakeLLM
    ) -> None:
        document = LongDocument(make_llm(max_tokens=4), book(), top_k=2, passage_tokens=64)
        assert document.ask("xyzzy?").sources[0].start == 0

    @pytest.mark.parametrize("method", METHODS)
    def test_a_retriever_of_one_s_own_is_asked(self, make_llm: MakeLLM, method: str) -> None:
        class Own(BaseRetriever):
            def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
                node = TextNode(text=FACT, metadata={"page_label": "9"}, start_char_idx=7)
                assert query_bundle.query_str == "电话？"
                return [NodeWithScore(node=node, score=0.5)]

        document = LongDocument(make_llm(max_tokens=8), book(), retriever=Own())
        (source,) = ask(document, method, "电话？")[-1].sources
        assert (source.page, source.start, source.end) == ("9", 7, None)
        assert (source.text, source.score) == (FACT, 0.5)

    @pytest.mark.parametrize("method", METHODS)
    def test_what_a_retriever_finds_is_shown_in_the_order_of_the_document(
        self, make_llm: MakeLLM, method: str
    ) -> None:
        """Its passages are others than ours; they were shown best first."""
        llm, text = make_llm(max_tokens=8), book()
        pages = [Document(text=text[:20_000]), Document(text=text[20_000:])]
        nodes = llm.node_parser(chunk_size=100).get_nodes_from_documents(pages)
        best_first = [nodes[place] for place in (-2, 5, 70, 40, 6)]

        class Own(BaseRetriever):
            def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
                return [NodeWithScore(node=node, score=1.0) for node in best_first]

        document = LongDocument(llm, pages, retriever=Own())
        shown = [source.text for source in ask(document, method, "电话？")[-1].sources]
        assert shown == [nodes[place].get_content() for place in (5, 6, 40, 70, -2)]

    def test_a_question_for_which_there_is_no_room_is_refused(self, make_llm: MakeLLM) -> None:
        document = LongDocument(make_llm(), book())
        with pytest.raises(ContextOverflowError):
            document.ask("Why? " * 6_000)
        with pytest.raises(ContextOverflowError):
            document.ask("Why?", max_tokens=4_000)


class TestJOptions:
    def test_progress_is_told_while_the_document_is_read(self, make_llm: MakeLLM) -> None:
        told: list[tuple[str, int, int]] = []
        text = "Progress.\n" + "".join(SENTENCES[:2]) * 30
        document = LongDocument(
            make_llm(max_tokens=2), text, progress=lambda *news: told.append(news)
        )
        answer = document.ask("Which floor?")
        assert answer.whole
        assert {(stage, total) for stage, _, total in told} == {
            ("prefill", answer.raw["usage"]["prompt_tokens"])
        }
        done = [done for _, done, _ in told]
        assert done == sorted(done)

    @pytest.mark.parametrize("question", ["", "  ", None, 7])
    def test_what_is_no_question_is_refused(self, make_llm: MakeLLM, question: Any) -> None:
        document = LongDocument(make_llm(), LIBRARY)
        for method in METHODS:
            with pytest.raises(InvalidPromptError):
                ask(document, method, question)

    @pytest.mark.parametrize(
        "wrong",
        [{"order": "last"}, {"instruction": None}, {"top_k": 0}, {"passage_tokens": 1.5}],
    )
    def test_wrong_options_are_refused_by_name(
        self, make_llm: MakeLLM, wrong: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            LongDocument(make_llm(), LIBRARY, **wrong)
        assert caught.value.parameter in wrong

    async def test_questions_asked_together_share_the_document(self, make_llm: MakeLLM) -> None:
        document = LongDocument(make_llm(max_tokens=8), f"Together.\n{LIBRARY}")
        await document.aread()
        answers = await asyncio.gather(*(document.aask(question) for question in QUESTIONS))
        for answer in answers:
            assert answer.raw["usage"]["cached_tokens"] > document.tokens - 32
