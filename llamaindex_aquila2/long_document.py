"""LongDocument: many questions about one document. It knows prompts and passages, no runtime.

A document that fits the context is read whole, and goes before the question: every prompt then
begins alike, and the prefix cache holds the document from the second question on. Of one that does
not fit, the passages that match the question best are shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole

from aquila2_runtime import ContextOverflowError, InvalidPromptError, InvalidRequestError
from aquila2_runtime.begun import begun
from aquila2_runtime.shown import shown
from llamaindex_aquila2._bm25 import BM25
from llamaindex_aquila2._document_answer import DocumentAnswer
from llamaindex_aquila2._params import unalias
from llamaindex_aquila2._passages import Source, cut, place_of, read_pages, source_of
from llamaindex_aquila2.base import Aquila2

if TYPE_CHECKING:
    from llama_index.core.schema import Document

    from aquila2_runtime.load_options import Progress

__all__ = ["DocumentAnswer", "LongDocument", "Source"]

ORDERS: Final = ("document_first", "question_first")
_PASSAGE_TOKENS: Final = 256
_PASSAGE_SHARE: Final = 6  # of the room for the prompt, at most one in so many
# More passages hold the answer more often; beyond half of the window reading them takes long, and
# what is in the middle of so much is found less.
_EXCERPT_SHARE: Final = 0.5
_LEAST_PASSAGES: Final = 4
_SOURCES: Final = 4
# What is asked for where only the prompt is to be read; the model's own min_tokens may be more.
_ONE_TOKEN: Final = {"max_tokens": 1, "min_tokens": 0}


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """What to ask: the message, and the passages in it; None for the whole document."""

    messages: list[ChatMessage]
    shown: tuple[Source, ...] | None
    question: str


class LongDocument:
    """A document to ask questions about.

    Args:
        llm: The model. Its ``system_prompt`` goes before the document.
        document: A text, or texts or LlamaIndex documents, one a page.
        order: "document_first" puts the question last, so that the document is read once for all
            questions; "question_first" puts it first, and reads all of it for each.
        instruction: Stands before the question, such as "Answer in one sentence."; empty for none.
        retriever: Finds passages where the document does not fit; by default BM25.
        top_k: Passages that are shown at most, where they fit; by default as many as fill half
            of the room for a prompt, and at least 4. A retriever of one's own says it itself.
        passage_tokens: Tokens of a passage; by default at most 256.
        progress: Called with "prefill", prompt tokens read and prompt tokens in all, while a prompt
            takes more than one step to read; in the thread that reads the answer.

    Raises:
        InvalidRequestError: The document has no text, or a value is wrong.

    Example:
        >>> book = LongDocument(llm, Path("contract.txt").read_text())
        >>> answer = book.ask("Who signed it?")
        >>> answer.text, answer.sources[0].start
    """

    def __init__(
        self,
        llm: Aquila2,
        document: str | Sequence[str | Document] | Document,
        *,
        order: str = "document_first",
        instruction: str = "",
        retriever: BaseRetriever | None = None,
        top_k: int | None = None,
        passage_tokens: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        if not isinstance(llm, Aquila2):
            _fail("llm", llm, "an Aquila2")
        if retriever is not None and not isinstance(retriever, BaseRetriever):
            _fail("retriever", retriever, "a LlamaIndex retriever or None")
        if order not in ORDERS:
            _fail("order", order, f"one of {', '.join(map(repr, ORDERS))}")
        if not isinstance(instruction, str):
            _fail("instruction", instruction, "a string")
        for name, count in (("top_k", top_k), ("passage_tokens", passage_tokens)):
            if count is not None:
                _check_count(name, count)
        self._llm = llm
        self._pages = read_pages(document)
        self._text = "\n\n".join(page.text for page in self._pages)
        self._tokens = self._count(self._text)
        room = llm.metadata.context_window - llm.metadata.num_output
        size = passage_tokens or max(16, min(_PASSAGE_TOKENS, room // _PASSAGE_SHARE))
        self._passages = cut(self._pages, self._count, size)
        self._index = BM25([passage.text for passage in self._passages])
        self._order = order
        self._instruction = instruction
        self._retriever = retriever
        self._top_k = top_k or max(_LEAST_PASSAGES, int(room * _EXCERPT_SHARE) // size)
        self._progress = progress

    @property
    def tokens(self) -> int:
        """How many tokens the document has."""
        return self._tokens

    def ask(self, question: str, **kwargs: Any) -> DocumentAnswer:
        """Answer a question.

        Args:
            question: About the document.
            **kwargs: Keywords of ``Aquila2.chat``, such as ``max_tokens``.

        Raises:
            InvalidPromptError: The question is no text, or empty.
            ContextOverflowError: Not even the question and one passage fit.
        """
        plan = self._whole_or_excerpt(question, kwargs)
        return self._answer(plan, self._llm.chat(plan.messages, **self._keywords(kwargs)))

    async def aask(self, question: str, **kwargs: Any) -> DocumentAnswer:
        """Answer a question without blocking the event loop; see ``ask``."""
        plan = await self._aplan(question, kwargs)
        return self._answer(plan, await self._llm.achat(plan.messages, **self._keywords(kwargs)))

    def stream(self, question: str, **kwargs: Any) -> Generator[DocumentAnswer]:
        """Answer piece by piece; the last piece has the sources. See ``ask``."""
        plan = self._whole_or_excerpt(question, kwargs)
        chunks = self._llm.stream_chat(plan.messages, **self._keywords(kwargs))

        def generate() -> Generator[DocumentAnswer]:
            with contextlib.closing(chunks):
                for chunk in chunks:
                    yield self._answer(plan, chunk)

        return begun(generate())

    async def astream(self, question: str, **kwargs: Any) -> AsyncGenerator[DocumentAnswer]:
        """Answer piece by piece without blocking the event loop; see ``stream``."""
        plan = await self._aplan(question, kwargs)
        chunks = await self._llm.astream_chat(plan.messages, **self._keywords(kwargs))
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield self._answer(plan, chunk)

    def read(self) -> None:
        """Read the document ahead of the first question, which is then answered sooner.

        Nothing happens where it does not fit, or comes behind the question.
        """
        plan = self._ahead()
        if plan is not None:
            self._llm.chat(plan.messages, **self._keywords(_ONE_TOKEN))

    async def aread(self) -> None:
        """Read the document ahead without blocking the event loop; see ``read``."""
        plan = await asyncio.to_thread(self._ahead)
        if plan is not None:
            await self._llm.achat(plan.messages, **self._keywords(_ONE_TOKEN))

    # Inner steps

    def _count(self, text: str) -> int:
        return len(self._llm.tokenizer_fn(text))

    def _keywords(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return kwargs if self._progress is None else {"progress": self._progress, **kwargs}

    def _room(self, kwargs: dict[str, Any]) -> int:
        """Tokens of a prompt, the answer's set aside."""
        metadata = self._llm.metadata
        asked = unalias(kwargs, "The call").get("max_tokens")
        return metadata.context_window - (asked if isinstance(asked, int) else metadata.num_output)

    def _prompt(self, text: str, question: str) -> str:
        asked = f"{self._instruction}\n\n{question}" if self._instruction else question
        pieces = [text, asked] if self._order == "document_first" else [asked, text]
        return "\n\n".join(piece for piece in pieces if piece)

    def _plan(self, question: str, kwargs: dict[str, Any]) -> _Plan | None:
        """The whole document and the question; None where they do not fit."""
        if not isinstance(question, str) or not question.strip():
            raise InvalidPromptError(
                f"question={shown(question)} is not valid; it must be a text.",
                parameter="question",
                value=question,
            )
        room = self._room(kwargs)
        if self._tokens > room:
            return None
        prompt = self._prompt(self._text, question)
        return _asking(prompt, None, question) if self._count(prompt) <= room else None

    def _ahead(self) -> _Plan | None:
        """What to read before there is a question."""
        return self._plan("?", {}) if self._order == "document_first" else None

    def _whole_or_excerpt(self, question: str, kwargs: dict[str, Any]) -> _Plan:
        plan = self._plan(question, kwargs)
        return plan or self._excerpt(question, kwargs, self._found(question))

    async def _aplan(self, question: str, kwargs: dict[str, Any]) -> _Plan:
        """In a thread, since a long text takes a while to count."""
        if self._retriever is None:
            return await asyncio.to_thread(self._whole_or_excerpt, question, kwargs)
        plan = await asyncio.to_thread(self._plan, question, kwargs)
        if plan is not None:
            return plan
        found = [source_of(node) for node in await self._retriever.aretrieve(question)]
        return await asyncio.to_thread(self._excerpt, question, kwargs, found)

    def _found(self, question: str) -> list[Source]:
        """Passages for a question, best first."""
        if self._retriever is not None:
            return [source_of(node) for node in self._retriever.retrieve(question)]
        return self._best(question, self._top_k) or self._passages[: self._top_k]

    def _best(self, query: str, most: int) -> list[Source]:
        return [
            dataclasses.replace(self._passages[place], score=score)
            for place, score in self._index.rank(query, most)
        ]

    def _excerpt(self, question: str, kwargs: dict[str, Any], found: Sequence[Source]) -> _Plan:
        """The question and as many of the passages as fit, in the order of the document."""
        room, taken = self._room(kwargs), list[Source]()
        places = {id(source): place_of(source, self._pages) for source in found}
        for source in found:
            tried = sorted([*taken, source], key=lambda one: places[id(one)])
            if self._count(self._prompt(_joined(tried), question)) <= room:
                taken = tried
        if found and not taken:
            needed = self._count(self._prompt(found[0].text, question))
            raise ContextOverflowError(
                prompt_tokens=needed,
                max_tokens=self._llm.metadata.context_window - room,
                max_model_len=self._llm.metadata.context_window,
            )
        return _asking(self._prompt(_joined(taken), question), tuple(taken), question)

    def _answer(self, plan: _Plan, response: ChatResponse) -> DocumentAnswer:
        text, raw = response.message.content or "", dict(response.raw or {})
        sources: Sequence[Source] = ()
        if raw.get("finish_reason") is not None:
            sources = (
                plan.shown
                if plan.shown is not None
                else sorted(
                    self._best(f"{plan.question}\n{text}", _SOURCES),
                    key=lambda one: place_of(one, self._pages),
                )
            )
        return DocumentAnswer(
            text=text,
            delta=response.delta,
            whole=plan.shown is None,
            sources=tuple(sources),
            raw=raw,
        )


def _asking(prompt: str, sources: tuple[Source, ...] | None, question: str) -> _Plan:
    return _Plan([ChatMessage(role=MessageRole.USER, content=prompt)], sources, question)


def _joined(sources: Sequence[Source]) -> str:
    return "\n\n".join(source.text.strip() for source in sources)


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        _fail(name, value, "a positive integer")


def _fail(name: str, value: object, allowed: str) -> NoReturn:
    raise InvalidRequestError(
        f"{name}={shown(value)} is not valid; it must be {allowed}.", parameter=name, value=value
    )
