"""Streams that are closed unread: their work ends at once, though somebody still holds them."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Generator
from typing import Any

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
from aquila2_runtime.begun import begun
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.conformance.objects import Town
from llamaindex_aquila2.long_document import LongDocument
from tests.llamaindex.support import QUESTION, MakeLLM, wait_until_idle

LONG = {"max_tokens": 1_500, "ignore_eos": True}
STREAMS: dict[str, Callable[[Aquila2], Any]] = {
    "runtime": lambda llm: llm.runtime.stream_chat(
        [Message("user", QUESTION)], SamplingParams(**LONG)
    ),
    "stream_chat": lambda llm: llm.stream_chat([ChatMessage(QUESTION)], **LONG),
    "stream_complete": lambda llm: llm.stream_complete(QUESTION, **LONG),
    "stream_chat_with_tools": lambda llm: llm.stream_chat_with_tools([], QUESTION, **LONG),
    "stream_structured_predict": lambda llm: llm.stream_structured_predict(
        Town, PromptTemplate(QUESTION)
    ),
    "LongDocument.stream": lambda llm: LongDocument(llm, QUESTION).stream("Why?", **LONG),
}


class Work:
    """What was started for a stream."""


class Keeping(Generator[int, None, None]):
    """Keeps its work when it is closed unread, as a generator does from Python 3.12 on."""

    def __init__(self, work: Work) -> None:
        self._work, self._pieces = work, iter((1, 2))

    def send(self, value: None) -> int:
        return next(self._pieces)

    def throw(self, *error: Any) -> int:
        raise error[0]


@pytest.mark.parametrize("name", STREAMS)
def test_c7_a_stream_that_is_closed_unread_ends_its_work(
    make_llm: MakeLLM, demo_runtime: Aquila2Runtime, name: str
) -> None:
    """By LlamaIndex's own generator too, from Python 3.12 on only when it was dropped."""
    llm = make_llm(max_tokens=400)
    before = demo_runtime.stats().steps
    stream = STREAMS[name](llm)
    assert inspect.isgenerator(stream)
    stream.close()
    wait_until_idle(demo_runtime)
    assert demo_runtime.stats().steps - before <= 100
    assert list(stream) == []


def test_what_has_begun_lets_go_of_what_it_reads_from() -> None:
    work = Work()
    kept = weakref.ref(work)
    stream = begun(Keeping(work))
    del work
    assert kept() is not None
    stream.close()
    assert kept() is None


def test_what_has_begun_gives_every_piece_and_hears_every_error() -> None:
    assert list(begun(Keeping(Work()))) == [1, 2]
    stream = begun(Keeping(Work()))
    assert next(stream) == 1
    with pytest.raises(KeyError):
        stream.throw(KeyError())
