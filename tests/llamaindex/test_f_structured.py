"""F. Structured output: objects of a class whatever the weights are, whole and streamed."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import itertools
import random
from pathlib import Path
from typing import Any, Literal

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.prompts import ChatPromptTemplate
from pydantic import BaseModel, Field, create_model

from aquila2_runtime import (
    Aquila2Runtime,
    Message,
)
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.conformance.objects import METHODS, Town, predict
from tests.llamaindex.scripted import scripted_runtime
from tests.llamaindex.support import EventNames, LLMEvents, MakeLLM
from tests.untrained import untrained_copy


class Colour(enum.Enum):
    RED = "red"
    BLUE = "蓝色"


class Leaf(BaseModel):
    label: str = Field(min_length=1, max_length=12)
    size: int = Field(ge=-5, le=500)


KINDS: tuple[Any, ...] = (
    (str, ...),
    (int, ...),
    (float, Field(ge=0, le=1)),
    (bool, ...),
    (str | None, None),
    (list[str], ...),
    (list[Leaf], Field(min_length=1, max_length=3)),
    (dict[str, int], ...),
    (Colour, ...),
    (Literal["a", "b", 3], ...),
    (Leaf | int, ...),
    (datetime.date, ...),
    (datetime.datetime, ...),
    (datetime.time, ...),
    (decimal.Decimal, ...),
    (str, Field(alias="另名")),
    (str, Field(pattern=r"^[a-z]{2}-\d+$")),
)


def random_class(seed: int) -> type[BaseModel]:
    """A class with some members of the kinds people use."""
    rng = random.Random(seed)
    fields = {f"member_{place}": kind for place, kind in enumerate(rng.sample(KINDS, 4))}
    return create_model(f"Class{seed}", __doc__="A class.", **fields)


@pytest.fixture(scope="module")
def untrained(demo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return untrained_copy(demo_path, tmp_path_factory.mktemp("untrained") / "untrained")


def predict_all(model: str, count: int) -> None:
    """Every class by every method in turn; pydantic itself is the check."""
    llm = Aquila2(
        model, template="aquila-v1", device="cpu", temperature=1.0, top_p=1.0, max_tokens=160
    )
    for seed in range(count):
        cls, method = random_class(seed), METHODS[seed % len(METHODS)]
        found = predict(llm, method, cls, llm_kwargs={"seed": seed})
        assert type(found[-1]) is cls, (seed, found[-1])


class TestFValidity:
    def test_f19_random_weights_answer_with_objects_of_random_classes(self, untrained: str) -> None:
        predict_all(untrained, 8)

    @pytest.mark.slow
    @pytest.mark.timeout(1200)
    def test_f19_random_weights_answer_with_objects_of_a_hundred_random_classes(
        self, untrained: str
    ) -> None:
        predict_all(untrained, 100)

    @pytest.mark.parametrize("max_tokens", [26, 32, 64])
    def test_an_object_is_closed_before_the_budget_ends(
        self, make_llm: MakeLLM, max_tokens: int
    ) -> None:
        llm = make_llm(temperature=2.0, top_p=1.0, max_tokens=max_tokens)
        for seed in range(4):
            (town,) = predict(llm, "structured_predict", Town, llm_kwargs={"seed": seed})
            assert type(town) is Town

    def test_streamed_objects_only_grow(self, make_llm: MakeLLM) -> None:
        found = predict(make_llm(max_tokens=80), "stream_structured_predict", Town)
        # Each has the members of those before it.
        members = [set(item.model_dump(exclude_unset=True)) for item in found]
        assert all(before <= after for before, after in itertools.pairwise(members))


class TestFPrompt:
    @pytest.mark.parametrize("method", METHODS)
    def test_the_prompt_keeps_the_system_text_and_names_the_form_once(
        self, demo_runtime: Aquila2Runtime, method: str
    ) -> None:
        runtime, engine = scripted_runtime(demo_runtime, 2048, 0)
        engine.script = ['{"name": "Ostia", "inhabitants": 1, "rivers": []}']
        llm = Aquila2.from_runtime(runtime, system_prompt="Be {brief}.")
        predict(llm, method, Town)
        form = "{name: string, inhabitants: integer, rivers: string[]}"
        expected = [
            Message("system", "Be {brief}."),
            Message("user", f"Name a town near Rome.\n\nAnswer in JSON: {form}"),
        ]
        assert list(engine.asked[0].prompt_token_ids) == demo_runtime.render(expected)

    def test_a_base_model_is_held_to_the_form_too(self, make_llm: MakeLLM) -> None:
        llm = make_llm(is_chat_model=False, max_tokens=60)
        assert type(predict(llm, "structured_predict", Town)[0]) is Town

    def test_a_prompt_without_a_question_gets_the_form_as_one(
        self, demo_runtime: Aquila2Runtime
    ) -> None:
        runtime, engine = scripted_runtime(demo_runtime, 2048, 0)
        engine.script = ['{"label": "x", "size": 1}']
        prompt = ChatPromptTemplate(message_templates=[ChatMessage("Invent.", role="system")])
        predict(Aquila2.from_runtime(runtime), "structured_predict", Leaf, prompt=prompt)
        form = Message("user", "Answer in JSON: {label: string, size: integer}")
        expected = demo_runtime.render([Message("system", "Invent."), form])
        assert list(engine.asked[0].prompt_token_ids) == expected


class TestFEvents:
    @pytest.mark.parametrize("method", METHODS)
    def test_one_pair_of_chat_events_and_one_of_structured_ones(
        self, make_llm: MakeLLM, method: str
    ) -> None:
        handler, names = LLMEvents(), EventNames()
        root = get_dispatcher()
        root.add_event_handler(names)
        try:
            llm = make_llm(max_tokens=60, callback_manager=CallbackManager([handler]))
            found = predict(llm, method, Town)
        finally:
            root.event_handlers.remove(names)
        assert (len(handler.starts), len(handler.ends)) == (1, 1)
        assert names.names.count("LLMStructuredPredictStartEvent") == 1
        assert names.names.count("LLMStructuredPredictEndEvent") == 1
        assert names.names.count("LLMStructuredPredictInProgressEvent") == len(found) - 1


class TestFStructuredLLM:
    # LlamaIndex's wrapper writes its chunks by pydantic's old method.
    @pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
    def test_as_structured_llm_answers_and_streams_objects(self, make_llm: MakeLLM) -> None:
        structured = make_llm(max_tokens=80).as_structured_llm(Town)
        messages = [ChatMessage("Name a town near Rome.")]
        town = structured.chat(messages).raw
        assert type(town) is Town
        assert asyncio.run(structured.achat(messages)).raw == town
        assert list(structured.stream_chat(messages))[-1].raw == town
        assert structured.complete("Name a town near Rome.").raw == town

        async def last() -> Any:
            return [chunk async for chunk in await structured.astream_chat(messages)][-1].raw

        assert asyncio.run(last()) == town
