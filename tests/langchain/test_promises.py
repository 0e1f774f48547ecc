"""What LangChain's own suite does not look at: forwards, threads, half characters, late errors."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core import exceptions as core
from langchain_core.caches import InMemoryCache
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    trim_messages,
)
from langchain_core.rate_limiters import InMemoryRateLimiter

from aquila2_runtime import Aquila2Runtime, Choice
from aquila2_runtime import errors as ours
from aquila2_runtime.engine.runner import Runner
from langchain_aquila2 import Aquila2LLM, ChatAquila2
from tests.langchain.support import MakeChat
from tests.runtime.support import idle, wait_until

LONG = {"max_tokens": 1500, "ignore_eos": True}
WILD = {"temperature": 1.5, "top_p": 1.0, "ignore_eos": True}


@pytest.fixture
def forwards(demo_runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each forward pass computed, as they are run."""
    counts: list[int] = []
    run = Runner.run

    def counted(self: Runner, scheduled: Any) -> Any:
        counts.append(len(scheduled))
        return run(self, scheduled)

    monkeypatch.setattr(Runner, "run", counted)
    return counts


@pytest.mark.parametrize("way", ["batch", "abatch", "generate", "agenerate"])
async def test_a_batch_of_eight_takes_the_forwards_of_one_answer(
    make_chat: MakeChat, demo_runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The first waits for the others, so that the count does not hang on how threads are run."""
    counts: list[int] = []
    gathered_all: list[bool] = []
    run = Runner.run

    def gathered(self: Runner, scheduled: Any) -> Any:
        if not counts:
            # Counted before this step was planned, so with those that are in it.
            gathered_all.append(wait_until(lambda: demo_runtime.stats().waiting >= 8))
        counts.append(len(scheduled))
        return run(self, scheduled)

    chat = make_chat(max_tokens=24, ignore_eos=True).warmup()
    inputs = [f"Question {number}" for number in range(8)]
    conversations: Any = [[HumanMessage(text)] for text in inputs]
    assert wait_until(lambda: idle(demo_runtime))
    monkeypatch.setattr(Runner, "run", gathered)
    made = getattr(chat, way)(conversations if "generate" in way else inputs)
    answers = await made if way.startswith("a") else made
    assert len(answers if "batch" in way else answers.generations) == 8
    assert gathered_all == [True]
    assert max(counts) == 8
    assert len(counts) <= 24 + 2


def test_a_closed_stream_stops_within_two_forwards(
    make_chat: MakeChat, demo_runtime: Aquila2Runtime, forwards: list[int]
) -> None:
    stream = make_chat(**LONG).stream("hi")
    next(stream)
    stream.close()
    closed = len(forwards)
    assert wait_until(lambda: idle(demo_runtime))
    assert len(forwards) - closed <= 2


@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_a_cancelled_task_stops_within_two_forwards(
    make_chat: MakeChat, demo_runtime: Aquila2Runtime, forwards: list[int], way: str
) -> None:
    chat = make_chat(**LONG)

    async def streamed() -> None:
        async for _ in chat.astream("hi"):
            pass

    task = asyncio.ensure_future(chat.ainvoke("hi") if way == "ainvoke" else streamed())
    while len(forwards) < 5:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    cancelled = len(forwards)
    assert await asyncio.to_thread(wait_until, lambda: idle(demo_runtime))
    assert len(forwards) - cancelled <= 2


def test_two_threads_get_the_answers_they_get_one_after_the_other(make_chat: MakeChat) -> None:
    chat = make_chat(max_tokens=24, **WILD)
    asked = [[("Tell me a story", seed), ("你好！", seed + 10)] for seed in range(2)]

    def ask(questions: list[tuple[str, int]]) -> list[str]:
        return [str(chat.invoke(text, seed=seed).content) for text, seed in questions]

    serial = [ask(questions) for questions in asked]
    found: list[list[str]] = [[], []]

    def work(number: int) -> None:
        found[number] = ask(asked[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == serial


@pytest.mark.parametrize("text", ["龘𠮷龘", "你好，世界！こんにちは", "👨‍👩‍👧 ✓ größe"])
async def test_no_chunk_ends_in_half_a_character(chat: ChatAquila2, text: str) -> None:
    """The rarer of them take several tokens each; what is said is forced."""
    bound = chat.bind(constraint=Choice([text]), max_tokens=90)
    whole = bound.invoke("hi")
    pieces = [str(chunk.content) for chunk in bound.stream("hi")]
    awaited = [str(chunk.content) async for chunk in bound.astream("hi")]
    for found in (pieces, awaited):
        assert "".join(found) == whole.content == text
        assert not any("\ufffd" in piece for piece in found)
        assert len([piece for piece in found if piece]) > 1


@pytest.mark.parametrize("way", ["invoke", "stream", "batch", "ainvoke", "astream", "abatch"])
async def test_an_error_within_an_answer_is_raised_within_a_second(
    chat: ChatAquila2, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """In other adapters it stays in a thread, and the reader waits a minute for nothing."""
    raised: list[float] = []
    run = Runner.run

    def broken(self: Runner, scheduled: Any) -> Any:
        if any(item.request.num_generated >= 3 for item in scheduled):
            raised.append(time.monotonic())
            raise ValueError("broken kernel")
        return run(self, scheduled)

    async def ask() -> None:
        question: Any = ["hi"] if "batch" in way else "hi"
        made = getattr(chat, way)(question, ignore_eos=True)
        if way == "stream":
            list(made)
        elif way == "astream":
            async for _ in made:
                pass
        elif way.startswith("a"):
            await made

    monkeypatch.setattr(Runner, "run", broken)
    with pytest.raises(core.ModelError) as caught:
        await ask()
    assert time.monotonic() - raised[-1] < 1.0
    assert isinstance(caught.value, ours.GenerationError)
    monkeypatch.undo()
    assert chat.invoke("hi").content


def test_a_cache_answers_the_same_question_only(make_chat: MakeChat, forwards: list[int]) -> None:
    cache = InMemoryCache()
    chat = make_chat(max_tokens=4, cache=cache)
    told = chat.invoke("hi")
    computed = len(forwards)
    again = make_chat(max_tokens=4, cache=cache).invoke("hi")
    assert again.content == told.content
    assert len(forwards) == computed
    others: list[dict[str, Any]] = [
        {"seed": 1},
        {"temperature": 0.5},
        {"max_tokens": 3},
        {"logprobs": True},
        {"stop": ["never said"]},
        {"logit_bias": {5: 1.0}},
        {"constraint": Choice(["yes", "no"])},
    ]
    for other in others:
        chat.invoke("hi", **other)
        assert len(forwards) > computed, other
        computed = len(forwards)
    chat.bind_tools([TOOL]).invoke("hi")
    assert len(forwards) > computed


async def test_a_cache_of_plain_texts_heeds_the_keywords_of_a_call_and_every_stop(
    spec: dict[str, Any], demo_runtime: Aquila2Runtime, forwards: list[int]
) -> None:
    """LangChain's own key leaves the one out and writes the call's stops over the object's."""
    kept = {**spec, "temperature": 0, "max_tokens": 3, "cache": InMemoryCache()}
    model = Aquila2LLM(**kept)
    told = model.invoke("1 2 3")
    computed = len(forwards)
    assert model.invoke("1 2 3") == await model.ainvoke("1 2 3") == told
    assert len(forwards) == computed
    asked: list[Callable[[], str]] = [
        lambda: model.invoke("1 2 3", max_tokens=2),
        lambda: model.invoke("1 2 3", constraint=Choice(["yes", "no"])),
        lambda: Aquila2LLM(**kept, stop="never said").invoke("1 2 3"),
    ]
    for ask in asked:
        first = ask()
        assert len(forwards) > computed
        computed = len(forwards)
        assert ask() == first
        assert len(forwards) == computed
    assert await model.ainvoke("1 2 3", max_tokens=1) != told


TOOL = {"title": "now", "description": "Get the time.", "type": "object", "properties": {}}
CALL = {"name": "now", "args": {}, "id": "1"}
CONVERSATIONS: dict[str, list[BaseMessage]] = {
    "names": [HumanMessage("Hi", name="Lena"), AIMessage("你好", name="bot"), HumanMessage("?")],
    "blocks": [
        SystemMessage([{"type": "text", "text": "Be brief."}]),
        HumanMessage([{"type": "text", "text": "One."}, "Two.", {"type": "text", "text": "三。"}]),
    ],
    "v1 blocks": [
        HumanMessage(
            content_blocks=[
                {"type": "text", "text": "Read this."},
                {"type": "text-plain", "mime_type": "text/plain", "text": "It says 龘."},
            ]
        )
    ],
    "late system": [HumanMessage("Hi"), SystemMessage("Be brief."), HumanMessage("?")],
    "calls": [HumanMessage("go"), AIMessage("", tool_calls=[CALL]),
              ToolMessage("12:00", tool_call_id="1"), HumanMessage("And now?")],
}  # fmt: skip


@pytest.mark.parametrize("kind", CONVERSATIONS)
@pytest.mark.parametrize("tools", [[], [TOOL]], ids=["plain", "tools"])
def test_offline_counts_are_those_of_the_prompt_s_real_ids(
    chat: ChatAquila2, monkeypatch: pytest.MonkeyPatch, kind: str, tools: list[Any]
) -> None:
    messages = CONVERSATIONS[kind]
    runtime = chat.warmup()._lease.runtime()
    outputs: list[Any] = []
    ask = runtime.chat
    monkeypatch.setattr(
        runtime, "chat", lambda *args, **kwargs: outputs.append(ask(*args, **kwargs)) or outputs[0]
    )
    answer = chat.bind_tools(tools).invoke(messages, max_tokens=1)
    real = list(outputs[0].prompt_token_ids)
    assert chat.get_num_tokens_from_messages(messages, tools=tools) == len(real)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] == len(real)
    text = runtime.tokenizer.decode(real)
    assert all((message.name or "") in text for message in messages)


def test_trim_messages_counts_with_the_model_itself(chat: ChatAquila2) -> None:
    turns = [HumanMessage(f"Note {number}: {'word ' * 10}") for number in range(9)]
    limit = chat.get_num_tokens_from_messages(turns[-3:])
    kept = trim_messages(turns, max_tokens=limit, token_counter=chat, strategy="last")
    assert kept == turns[-3:]
    assert chat.get_num_tokens("Hi, 世界") == len(chat.get_token_ids("Hi, 世界")) > 0


async def test_a_rate_limiter_holds_calls_back(make_chat: MakeChat) -> None:
    limiter = InMemoryRateLimiter(
        requests_per_second=10, check_every_n_seconds=0.01, max_bucket_size=1
    )
    chat = make_chat(max_tokens=1, rate_limiter=limiter).warmup()
    began = time.monotonic()
    chat.invoke("hi")
    list(chat.stream("hi"))
    await chat.ainvoke("hi")
    chat.batch(["hi", "ho"])
    # A bucket that starts empty gives the fifth call its turn after half a second.
    assert time.monotonic() - began >= 0.4
