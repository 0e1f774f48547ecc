"""Batches through LangChain: any length, any config, in order; nothing lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core import exceptions as core
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda

from aquila2_runtime import Aquila2Runtime, companions
from aquila2_runtime import errors as ours
from aquila2_runtime.engine import torch_engine
from aquila2_runtime.engine.runner import Runner
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


@pytest.mark.parametrize("way", WAYS)
async def test_a_batch_begins_in_one_step(
    make_chat: MakeChat,
    demo_runtime: Aquila2Runtime,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    """Its requests are made one by one, and the first once began alone."""
    monkeypatch.setattr(companions, "PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(companions, "MOST_SECONDS", 60.0)
    chat = make_chat(max_tokens=4, ignore_eos=True)
    before = demo_runtime.stats().steps
    await texts(chat, way, [f"Question {number}" for number in range(6)])
    assert demo_runtime.stats().steps - before == 4


@pytest.mark.parametrize(("config", "together"), [({"max_concurrency": 2}, 2), (None, 4)])
def test_no_more_are_announced_than_run_at_once(
    config: dict[str, int] | None, together: int
) -> None:
    assert _batches.together(_batches.wide(config, 4, 64), 4) == together


@pytest.mark.parametrize("way", ["batch", "abatch", "batch_as_completed", "abatch_as_completed"])
async def test_a_limit_is_inherited_from_the_runnable_around(
    make_chat: MakeChat, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """LangChain's own batches heed it; ours set a wider one over it."""
    chat = make_chat(max_tokens=8, ignore_eos=True).warmup()
    seen: list[int] = []
    run = Runner.run

    def counted(self: Runner, scheduled: Any) -> Any:
        seen.append(len(scheduled))
        return run(self, scheduled)

    async def ask(inputs: list[str]) -> list[str]:
        assert _batches.together(_batches.wide(None, len(inputs), 64), len(inputs)) == 2
        return await texts(chat, way, inputs)

    inputs = [f"Question {number}" for number in range(6)]
    expected = await texts(chat, way, inputs)
    monkeypatch.setattr(Runner, "run", counted)
    assert await RunnableLambda(ask).ainvoke(inputs, {"max_concurrency": 2}) == expected
    assert max(seen) == 2


@pytest.mark.parametrize("way", ["batch", "abatch", "batch_as_completed", "abatch_as_completed"])
async def test_inputs_that_never_reach_the_model_hold_no_others_up(
    make_chat: MakeChat, way: str
) -> None:
    """Cached or refused ones: the others are answered, each in its place."""
    chat = make_chat(max_tokens=4, cache=InMemoryCache())
    expected = [chat.invoke(text).text for text in ("hi", "ho")]
    inputs: list[Any] = ["hi", [], "ho", "hi"]  # no message is refused
    made = getattr(chat, way)(inputs, return_exceptions=True)
    if way == "batch":
        answers = made
    elif way == "abatch":
        answers = await made
    else:
        pairs = list(made) if way == "batch_as_completed" else [pair async for pair in made]
        answers = [answer for _, answer in sorted(pairs, key=lambda pair: pair[0])]
    assert isinstance(answers[1], ours.InvalidPromptError)
    assert [answers[place].text for place in (0, 2, 3)] == [*expected, expected[0]]


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


async def test_a_brief_question_to_a_loaded_model_needs_no_thread(
    chat: ChatAquila2, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would be one more wait for the interpreter beside the engine's thread."""

    async def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError

    chat.warmup()
    expected = chat.invoke("hi").text
    monkeypatch.setattr(asyncio, "to_thread", refuse)
    assert (await chat.ainvoke("hi")).text == expected
    assert "".join([chunk.text async for chunk in chat.astream("hi")]) == expected
