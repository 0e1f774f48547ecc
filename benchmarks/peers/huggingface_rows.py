"""What users of a chat model look at, seen on ChatHuggingFace."""

from __future__ import annotations

import asyncio
import copy
import datetime
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pydantic
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField

from benchmarks.peers.huggingface import QUESTION, Failing, Forced, Forwards, make, parts
from benchmarks.report import tried

STORY = "Tell me a long story about everything"
RARE = "龘𠮷，你好 👨‍👩‍👧 größe"
SCHEMA = {
    "title": "person",
    "description": "A person.",
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


class When(pydantic.BaseModel):
    """A day."""

    day: datetime.date


def weather(city: str) -> str:
    """Get the weather of a city."""
    return f"{city}: sunny"


def text(chat: Any, question: Any = QUESTION, **keywords: Any) -> str:
    """What a stream comes to."""
    return "".join(str(chunk.content) for chunk in chat.stream(question, **keywords))


def behaviours() -> Iterator[tuple[str, Any]]:
    """Yield what was seen, each by its name."""
    chat, (model, _) = make(), parts()
    yield from _answers(chat, model)
    yield from _endings(chat, model)
    yield from _tools(chat)
    yield from _inputs(chat)
    yield from _objects(chat, model)


def _answers(chat: Any, model: Any) -> Iterator[tuple[str, Any]]:
    async def streamed() -> list[Any]:
        return [chunk async for chunk in chat.astream(QUESTION)]

    def counted(ask: Callable[[], Any]) -> dict[str, Any]:
        forwards = Forwards(model)
        seen = tried(ask)
        forwards.close()
        return {"forwards": len(forwards.rows), "rows at most": max(forwards.rows), "seen": seen}

    free, message = text(chat), chat.invoke(QUESTION)
    tokenizer = parts()[1]
    token = tokenizer.convert_ids_to_tokens(tokenizer(free, add_special_tokens=False).input_ids)[1]
    few = {"max_new_tokens": 3}
    wild = {"do_sample": True, "temperature": 1.5, "top_p": 1.0}
    first = tokenizer(free, add_special_tokens=False).input_ids[0]
    yield "prompt echoed by invoke", QUESTION in str(message.content)
    whole = chat.invoke(QUESTION, skip_prompt=True).content
    yield "prompt echoed by invoke, skip_prompt=True", QUESTION in str(whole)
    yield "stopped by invoke", free not in str(chat.invoke(QUESTION, stop=[free[1:4]]).content)
    yield "stopped by stream", text(chat, stop=[free[1:4]]) != free
    yield "stopped by stream, at one token", text(chat, stop=[token]) != free
    yield "max_tokens=3, constructor", counted(lambda: make(max_tokens=3).invoke(STORY))
    yield "max_tokens=3, call", counted(lambda: chat.invoke(STORY, max_tokens=3))
    yield "max_new_tokens=3, call", counted(lambda: chat.invoke(STORY, pipeline_kwargs=few))

    def drawn(one: Any, **keywords: Any) -> int:
        return len({text(one, STORY, pipeline_kwargs=wild, **keywords) for _ in range(4)})

    yield "texts of four draws", drawn(chat)
    yield "texts of four draws, a call's seed", drawn(chat, seed=3)
    yield "texts of four draws, the constructor's seed", drawn(make(seed=3))
    yield "told apart by logit_bias", text(chat, logit_bias={first: -100}) != free
    yield "ainvoke", tried(lambda: asyncio.run(chat.ainvoke(QUESTION)))
    yield "astream", tried(lambda: asyncio.run(streamed()))
    yield "abatch", tried(lambda: asyncio.run(chat.abatch([QUESTION])))
    yield "usage_metadata", repr(message.usage_metadata)
    yield "response_metadata", repr(message.response_metadata)
    yield "answers of n=2", len(chat.generate([[HumanMessage(QUESTION)]], n=2).generations[0])
    yield "logprobs=True", repr(chat.invoke(QUESTION, logprobs=True).response_metadata)
    yield "batch of 8", counted(lambda: chat.batch([f"{QUESTION} {n}" for n in range(8)]))
    yield "threads get their own", _threads(chat)


def _threads(chat: Any) -> bool:
    asked = [[f"{QUESTION} {thread}", f"{thread} and {turn}?"] for thread, turn in ((1, 2), (3, 4))]
    alone = [[text(chat, question) for question in one] for one in asked]
    found: list[list[str]] = [[], []]

    def work(number: int) -> None:
        found[number] = [text(chat, question) for question in asked[number]]

    workers = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return found == alone


def _endings(chat: Any, model: Any) -> Iterator[tuple[str, Any]]:
    def failed(ask: Callable[..., Any]) -> str:
        began = time.monotonic()
        seen = tried(lambda: ask(QUESTION, pipeline_kwargs={"logits_processor": [Failing()]}))
        return f"{seen} after {time.monotonic() - began:.0f} s"

    pieces = [
        str(chunk.content)
        for chunk in chat.stream(
            QUESTION, pipeline_kwargs={"logits_processor": [Forced(RARE)], "max_new_tokens": 200}
        )
    ]
    yield "stream closed early", _closed(chat, model)
    yield "error, invoke", failed(chat.invoke)
    yield "error, stream", failed(lambda *asked, **keywords: text(chat, *asked, **keywords))
    yield "rare characters come whole", "".join(pieces) == RARE
    yield "chunks with half a character", sum("\ufffd" in piece for piece in pieces)
    limiter = InMemoryRateLimiter(
        requests_per_second=10, check_every_n_seconds=0.01, max_bucket_size=1
    )
    limited = make(rate_limiter=limiter, max_new_tokens=1)
    began = time.monotonic()
    for ask in (limited.invoke, limited.invoke, lambda asked: text(limited, asked)):
        ask(QUESTION)
    limited.batch([QUESTION, QUESTION])
    yield "five calls, ten a second", f"{time.monotonic() - began:.1f} s"


def _closed(chat: Any, model: Any) -> dict[str, int]:
    """Forward passes when a stream is closed after its first chunk, and three seconds later."""
    forwards = Forwards(model)
    stream = chat.stream(STORY)
    next(iter(stream))
    stream.close()
    at_close = len(forwards.rows)
    time.sleep(3)
    later = len(forwards.rows)
    forwards.close()
    return {"at close": at_close, "three seconds later": later}


def _tools(chat: Any) -> Iterator[tuple[str, Any]]:
    bound, forced = chat.bind_tools([weather]), chat.bind_tools([weather], tool_choice="any")
    asked = "Weather in Paris?"
    made: Any = chat.with_structured_output
    yield "tools, auto", tried(lambda: bound.invoke(asked).tool_calls)
    yield "tools, any", tried(lambda: forced.invoke(asked).tool_calls)
    fragments = [chunk.tool_call_chunks for chunk in bound.stream(asked)]
    yield "fragments of calls in a stream", sum(map(len, fragments))
    few = {"max_new_tokens": 8}

    def cut(method: str) -> Any:
        return made(SCHEMA, method=method).invoke(asked, pipeline_kwargs=few)

    def date(method: str) -> Any:
        return made(When, method=method).invoke("When? 2024-02-29.")

    for method in ("json_schema", "function_calling", "json_mode"):
        yield f"object, {method}, 8 tokens", tried(cut, method)
        yield (
            f"date, {method}",
            tried(date, method),
        )
    yield (
        "schema and tools",
        tried(lambda: made(SCHEMA, method="json_schema", tools=[weather]).invoke(asked)),
    )


def _inputs(chat: Any) -> Iterator[tuple[str, Any]]:
    human = HumanMessage(QUESTION)
    image: Any = {"type": "image_url", "image_url": {"url": "http://example.invalid/x.png"}}
    block: Any = {"type": "text", "text": "One."}
    named = [HumanMessage("Hi", name="Lena"), AIMessage("Yes?"), HumanMessage("?", name="Omar")]
    long = [HumanMessage("word " * 3_000)]
    yield "image", tried(lambda: chat.invoke([HumanMessage([image])]))
    yield "names in the prompt", "Lena" in chat._to_chat_prompt(named)
    yield "prompt of text blocks", chat._to_chat_prompt([HumanMessage([block])])
    yield (
        "prompt of v1 text blocks",
        tried(lambda: chat._to_chat_prompt([HumanMessage(content_blocks=[block])])),
    )
    yield "tokens of a message", tried(lambda: chat.get_num_tokens_from_messages([human]))
    prompt = parts()[1](chat._to_chat_prompt(long)).input_ids
    yield "too long a prompt: its tokens, the context", (len(prompt), 2048)
    few = {"max_new_tokens": 2}
    yield "too long a prompt", tried(lambda: text(chat, long, pipeline_kwargs=few))


def _objects(chat: Any, model: Any) -> Iterator[tuple[str, Any]]:
    def again() -> Any:
        kind: Any = {"allowed_objects": [type(chat)], "valid_namespaces": ["langchain_huggingface"]}
        return type(loads(dumps(chat), **kind)).__name__

    def shared(one: Any) -> str:
        return f"weights shared: {one.llm.pipeline.model is model}"

    def configured() -> Any:
        field = ConfigurableField(id="warmth")
        made = chat.configurable_fields(temperature=field)
        one, _ = made.prepare({"configurable": {"warmth": 0.75}})
        return shared(one), one.temperature

    other = make(max_new_tokens=7, pipeline_kwargs={"top_k": 3})
    yield "cache tells settings apart", chat._get_llm_string() != other._get_llm_string()
    yield "dump and load", tried(again)
    yield "pickled bytes", tried(lambda: len(pickle.dumps(chat)))
    yield "model_copy", tried(lambda: shared(chat.model_copy(update={"temperature": 0.5})))
    yield "deepcopy", tried(lambda: shared(copy.deepcopy(chat)))
    yield "configurable field", tried(configured)
    yield "profile", tried(lambda: chat.profile)
    yield "tracers", tried(lambda: chat._get_ls_params(stop=["b"], model="another", max_tokens=9))
