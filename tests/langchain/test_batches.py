"""Batches through LangChain: any length, any config, in order; nothing lost."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core import exceptions as core
from langchain_core.messages import HumanMessage

from aquila2_runtime import Aquila2Runtime
from aquila2_runtime import errors as ours
from aquila2_runtime.engine import torch_engine
from langchain_aquila2 import Aquila2LLM, ChatAquila2, _batches
from tests.langchain.support import MakeChat

WAYS = ("batch", "abatch", "generate", "agenerate", "batch_as_completed", "abatch_as_completed")


async def texts(model: ChatAquila2, way: str, inputs: list[str], **kwargs: Any) -> list[str]:
    """The answers by any way of asking many at once, in order."""
    if way.endswith("generate"):
        asked = [[HumanMessage(text)] for text in inputs]
        made = getattr(model, way)(asked, **kwargs)
        result = await made if way.startswith("a") else made
        return [answers[0].text for answers in result.generations]
    made = getattr(model, way)(inputs, **kwargs)
    if way == "batch":
        return [answer.text for answer in made]
    if way == "abatch":
        return [answer.text for answer in await made]
    pairs = list(made) if way == "batch_as_completed" else [pair async for pair in made]
    return [answer.text for _, answer in sorted(pairs, key=lambda pair: pair[0])]


@pytest.mark.parametrize("way", WAYS)
async def test_more_inputs_than_the_queue_holds_are_answered_in_order(
    make_chat: MakeChat, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """C10: a batch is fed by and by instead of being refused."""
    chat = make_chat(max_tokens=4, ignore_eos=True)
    inputs = [f"Question {number}" for number in range(40)]
    expected = [chat.invoke(text).text for text in inputs]
    monkeypatch.setattr(torch_engine, "MAX_WAITING", 16)
    monkeypatch.setattr(_batches, "MAX_TASKS", 12)
    monkeypatch.setattr(_batches, "MAX_WORKERS", 12)
    assert await texts(chat, way, inputs) == expected


@pytest.mark.parametrize(
    "config",
    [
        [{}, None],
        [None, None],
        ({"tags": ["a"]}, {"max_concurrency": 1}),
        {"max_concurrency": 1},
        {},
        None,
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["batch", "abatch", "batch_as_completed", "abatch_as_completed"])
async def test_every_config_that_langchain_takes_is_taken(
    chat: ChatAquila2, way: str, config: Any
) -> None:
    """A list of configs with a None in it once raised AttributeError."""
    expected = [chat.invoke(text).text for text in ("hi", "ho")]
    assert await texts(chat, way, ["hi", "ho"], config=config) == expected


async def test_an_input_that_times_out_is_an_error_of_both_kinds_beside_the_others(
    chat: ChatAquila2,
) -> None:
    """C10, A3: LangChain's way to keep the other answers is return_exceptions."""
    for answers in (
        chat.batch(["hi"], timeout=1e-9, return_exceptions=True),
        await chat.abatch(["hi"], timeout=1e-9, return_exceptions=True),
    ):
        [error] = answers
        assert isinstance(error, core.ModelTimeoutError)
        assert isinstance(error, ours.RequestTimeoutError)
        assert isinstance(error, TimeoutError)


async def test_a_plain_prompt_that_times_out_raises_alone_and_is_empty_among_others(
    spec: dict[str, object], demo_runtime: Aquila2Runtime
) -> None:
    """C10: one of several takes no finished answer with it, and generate says what happened."""
    llm = Aquila2LLM(**spec, temperature=0, max_tokens=4)
    with pytest.raises(core.ModelTimeoutError):
        llm.invoke("One", timeout=1e-9)
    with pytest.raises(core.ModelTimeoutError):
        await llm.ainvoke("One", timeout=1e-9)
    for result in (
        llm.generate(["One", "Two"], timeout=1e-9),
        await llm.agenerate(["One", "Two"], timeout=1e-9),
    ):
        for [answer] in result.generations:
            assert answer.text == ""
            assert answer.generation_info is not None
            assert answer.generation_info["finish_reason"] == "timeout"
