"""Everything LlamaIndex packs with our helpers leaves room for the whole answer, a thousand times.

What LlamaIndex itself does wrong is made harmless by ``prompt_helper()`` and ``use_as_default()``,
and tested here: simple_summarize formats a list into its prompt; compact and refine put 500 tokens
aside in any context; chat engines take no helper and make one of LlamaIndex's own; every message
takes its template's tokens; a system prompt is counted twice (which only wastes room).
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core import get_response_synthesizer
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from aquila2_runtime import Aquila2Runtime
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.conformance.texts import document
from tests.llamaindex.scripted import ScriptedEngine, scripted_runtime

MODES = ("compact", "refine", "tree_summarize", "simple_summarize", "accumulate")
KINDS = ("zh", "en", "code", "mixed")
SYSTEM = "You are a careful clerk. Answer in one full sentence and name your source. 请用中文回答。"
QUESTIONS = (
    "Where did the office move?",
    "图书馆在哪里？请说明从哪个门进入，并给出理由。",
    "What does `add(first, second)` return?\n\n    add(1, 2)",
    "And when? " * 5,
)
# Context and answer length: that of aquila2-demo, smaller and larger ones.
SHAPES = (
    (2_048, 64),
    (2_048, 256),
    (2_048, 512),
    (1_024, 64),
    (1_024, 256),
    (4_096, 64),
    (4_096, 256),
    (4_096, 512),
    (16_384, 64),
    (16_384, 256),
    (16_384, 512),
)


@dataclasses.dataclass
class Case:
    """One model, what it is asked, and what the engine saw of it."""

    llm: Aquila2
    engine: ScriptedEngine
    length: int
    num_output: int

    def check(self, calls: int, least: int = 1) -> None:
        """Every prompt of the last calls leaves room for the whole answer; none was shortened."""
        asked = self.engine.asked[-calls:] if calls else []
        assert len(asked) >= least
        for request in asked:
            assert request.max_tokens == self.num_output
            assert len(request.prompt_token_ids) + self.num_output <= self.length


def make_case(
    runtime: Aquila2Runtime, shape: tuple[int, int], system: str | None, seed: int
) -> Case:
    length, num_output = shape
    scripted, engine = scripted_runtime(runtime, length, seed)
    llm = Aquila2.from_runtime(scripted, max_tokens=num_output, system_prompt=system)
    return Case(llm.use_as_default(), engine, length, num_output)


class Finder(BaseRetriever):
    """Finds the next two chunks, whatever is asked."""

    def __init__(self, chunks: list[str]) -> None:
        self._chunks = itertools.cycle(chunks)
        super().__init__()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=TextNode(text=next(self._chunks)), score=1.0) for _ in "12"]


def synthesize(case: Case, mode: str, kind: str, seed: int) -> int:
    """Answer from documents; the number of calls it took."""
    chooser = random.Random(seed)
    synthesizer = get_response_synthesizer(
        llm=case.llm, response_mode=mode, prompt_helper=case.llm.prompt_helper()
    )
    texts = [document(kind, chooser.randrange(200, 6_000), seed + number) for number in range(3)]
    nodes = [NodeWithScore(node=TextNode(text=text), score=1.0) for text in texts]
    before = len(case.engine.asked)
    synthesizer.synthesize(chooser.choice(QUESTIONS), nodes)
    return len(case.engine.asked) - before


def simple(case: Case, finder: Finder, system: str | None) -> Any:
    return SimpleChatEngine.from_defaults(
        llm=case.llm, memory=case.llm.chat_memory(), system_prompt=system
    )


def context(case: Case, finder: Finder, system: str | None) -> Any:
    return ContextChatEngine.from_defaults(
        retriever=finder, llm=case.llm, memory=case.llm.chat_memory(), system_prompt=system
    )


def condense_question(case: Case, finder: Finder, system: str | None) -> Any:
    return CondenseQuestionChatEngine.from_defaults(
        query_engine=RetrieverQueryEngine.from_args(finder, llm=case.llm),
        llm=case.llm,
        memory=case.llm.chat_memory(),
    )


def condense_plus_context(case: Case, finder: Finder, system: str | None) -> Any:
    return CondensePlusContextChatEngine.from_defaults(
        retriever=finder, llm=case.llm, memory=case.llm.chat_memory(), system_prompt=system
    )


ENGINES: dict[str, Callable[[Case, Finder, str | None], Any]] = {
    "simple": simple,
    "context": context,
    "condense_question": condense_question,
    "condense_plus_context": condense_plus_context,
}


def talk(case: Case, name: str, kind: str, system: str | None, turns: int, seed: int) -> int:
    """Chat for some turns; the number of calls it took."""
    chooser = random.Random(seed)
    parser = case.llm.node_parser()
    chunks = parser.split_text(document(kind, 12_000, seed))
    engine = ENGINES[name](case, Finder(chunks), system)
    begun = len(case.engine.asked)
    for _ in range(turns):
        before = len(case.engine.asked)
        engine.chat(chooser.choice(QUESTIONS))
        calls = len(case.engine.asked) - before
        assert 1 <= calls <= 8
        case.check(calls)
    return len(case.engine.asked) - begun


def shapes(seed: int) -> Iterator[tuple[str, tuple[int, int], str | None, int]]:
    """Kinds of text, contexts and system messages, all with all."""
    for number, (kind, shape, system) in enumerate(
        itertools.product(KINDS, SHAPES, (None, SYSTEM))
    ):
        yield kind, shape, system, seed * 1_000 + number


class TestDFuzz:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("kind", KINDS)
    def test_d11_a_response_mode_leaves_room(
        self, demo_runtime: Aquila2Runtime, mode: str, kind: str
    ) -> None:
        """D11, P8: the quick part of the run below."""
        for number, shape in enumerate(SHAPES[:4]):
            case = make_case(demo_runtime, shape, SYSTEM if number % 2 else None, number)
            case.check(synthesize(case, mode, kind, number))

    @pytest.mark.parametrize("name", ENGINES)
    def test_d11_a_chat_engine_leaves_room(self, demo_runtime: Aquila2Runtime, name: str) -> None:
        """D11: a few turns of each; LlamaIndex's defaults overflow or raise at the fourth."""
        for number, shape in enumerate(SHAPES[:4]):
            system = SYSTEM if number % 2 else None
            # A system message is the model's own or the chat engine's.
            case = make_case(demo_runtime, shape, system if number > 1 else None, number)
            talk(case, name, KINDS[number], None if number > 1 else system, 5, number)

    @pytest.mark.slow
    @pytest.mark.timeout(900)
    @pytest.mark.parametrize("mode", MODES)
    def test_d11_every_response_mode_leaves_room_whatever_it_packs(
        self, demo_runtime: Aquila2Runtime, mode: str
    ) -> None:
        """D11: at least 200 calls of each mode, 1,000 in all."""
        calls = 0
        for seed in itertools.count():
            for kind, shape, system, number in shapes(seed):
                case = make_case(demo_runtime, shape, system, number)
                made = synthesize(case, mode, kind, number)
                case.check(made)
                calls += made
            if calls >= 200:
                break

    @pytest.mark.slow
    @pytest.mark.timeout(900)
    @pytest.mark.parametrize("name", ENGINES)
    def test_d11_every_chat_engine_leaves_room_for_thirty_turns(
        self, demo_runtime: Aquila2Runtime, name: str
    ) -> None:
        """D11: 18 conversations that meet every context, text and system message, 30 turns each."""
        calls = 0
        # Every fifth: a step that has no divisor in common with the lengths of the lists.
        for kind, shape, system, number in itertools.islice(shapes(7), 0, None, 5):
            own = system if number % 4 > 1 else None
            case = make_case(demo_runtime, shape, own, number)
            calls += talk(case, name, kind, None if own else system, 30, number)
        assert calls >= 18 * 30
