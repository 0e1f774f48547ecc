"""Rows of LlamaIndex's table about what a call takes, objects and tools, copies and pickles."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    TextBlock,
)
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import AnyUrl, BaseModel

from benchmarks.peers.llamaindex_calls import Peer
from benchmarks.peers.protocols import Answer, Json
from benchmarks.report import tried
from llamaindex_aquila2.conformance.calls import QUESTION, ask

NOWHERE = "http://192.0.2.1/x"


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def add(first: int, second: int = 1) -> int:
    """Add two numbers."""
    return first + second


ADD = FunctionTool.from_defaults(add)


def too_long(peer: Peer) -> Json:
    message = {"message": "maximum context length is 8192 tokens", "type": "invalid_request_error",
               "code": "context_length_exceeded"}  # fmt: skip
    error = {"error": message if peer.name == "openai" else "the input exceeds the context length"}
    peer.server.says(Answer(status=400, error=error))
    llm = peer.make()
    text = "word " * (llm.metadata.context_window + 1_000)
    told = tried(lambda: ask(llm, "chat", text))
    return {"window": llm.metadata.context_window, "chat": told,
            "requests": len(peer.server.asked)}  # fmt: skip


def stops(peer: Peer) -> Json:
    peer.server.says(Answer())

    def sent(endpoint: str) -> Any:
        ask(peer.make(), endpoint, stop=["x"])
        return peer.body().get("stop")

    def constructed() -> Any:
        ask(peer.make(additional_kwargs={"stop": ["x"]}), "chat")
        return peer.body().get("stop")

    return {"call": peer.each(sent), "constructor": tried(constructed)}


def keywords(peer: Peer) -> Json:
    peer.server.says(Answer())
    given = {peer.limit: 3, "temperature": 0.5, "seed": 7}

    def sent(endpoint: str) -> Any:
        ask(peer.make(), endpoint, **given)
        names = (*given, "max_completion_tokens")
        return {name: peer.body()[name] for name in names if name in peer.body()}

    return {"given": given, **peer.each(sent)}


def unknown(peer: Peer) -> Json:
    peer.server.says(Answer())

    def seen(endpoint: str) -> Any:
        ask(peer.make(), endpoint, temprature=0.5)
        return "sent" if "temprature" in json.dumps(peer.body()) else "ignored"

    return peer.each(seen)


def pictures(peer: Peer) -> Json:
    peer.server.says(Answer())

    def sent(block: Any) -> Any:
        messages = [ChatMessage(role="user", blocks=[TextBlock(text="What is this?"), block])]
        peer.make().chat(messages)
        return {key: peer.body()["messages"][-1].get(key) for key in ("content", "images")}

    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + b"0" * 16)
        file.flush()
        blocks: dict[str, Any] = {
            "picture at an address": ImageBlock(url=AnyUrl(f"{NOWHERE}.png")),
            "picture in a file": ImageBlock(path=Path(file.name)),
            "audio": AudioBlock(audio=b"UklGRgAA", format="wav"),
            "document": DocumentBlock(data=b"JVBERi0=", document_mimetype="application/pdf",
                                      title="x.pdf"),
        }  # fmt: skip
        return {kind: tried(sent, one) for kind, one in blocks.items()}


def objects(peer: Peer) -> Json:
    person = {"name": "Lena", "age": 30}

    def script(body: Json) -> Answer:
        if body.get("tools"):
            return Answer(call=(body["tools"][0]["function"]["name"], person))
        return Answer((json.dumps(person),))

    def seen() -> Any:
        peer.server.says(script)
        told = peer.make().structured_predict(Person, PromptTemplate("{text}"), text="Lena, 30.")
        names = ("tools", "tool_choice", "response_format", "format")
        return told, [name for name in names if peer.body().get(name)]

    def cut() -> Any:
        peer.server.says(Answer(('{"name": "Le',), finish="length"))
        return peer.make().structured_predict(Person, PromptTemplate("{text}"), text="Lena, 30.")

    return {"whole": tried(seen), "cut off": tried(cut)}


def tools(peer: Peer) -> Json:
    peer.server.says(Answer(call=("add", {"first": 12, "second": 30})))

    def seen(**more: Any) -> Any:
        llm = peer.make()
        told = llm.chat_with_tools([ADD], "12 + 30?", **more)
        calls = [(one.tool_name, one.tool_kwargs) for one in llm.get_tool_calls_from_response(told)]
        sent = peer.body()["tools"][0]["function"]["parameters"]["properties"]
        return peer.body().get("tool_choice", "no tool_choice"), calls, sent

    return {
        "tool_required": tried(lambda: seen(tool_required=True)),
        "tool_choice": tried(lambda: seen(tool_choice="add")),
    }


def called(peer: Peer) -> Json:
    peer.server.says(Answer(call=("add", {"first": 12, "second": 30})))
    return {
        "predict_and_call": tried(lambda: peer.make().predict_and_call([ADD], "?").response),
        "apredict_and_call": tried(
            lambda: asyncio.run(peer.make().apredict_and_call([ADD], "?")).response
        ),
    }


def copies(peer: Peer) -> Json:
    peer.server.says(Answer())
    made: dict[str, Callable[[Any], Any]] = {
        "deepcopy": copy.deepcopy,
        "model_copy": lambda llm: llm.model_copy(),
        "model_copy(deep=True)": lambda llm: llm.model_copy(deep=True),
    }

    def copied(make: Callable[[Any], Any], *, used: bool) -> str:
        llm = peer.make()
        if used:
            llm.complete(QUESTION)
        return str(make(llm).complete("?").text)

    return {
        f"{name}, {'used' if used else 'new'}": tried(copied, make, used=used)
        for used in (False, True)
        for name, make in made.items()
    }


def pickles(peer: Peer) -> Json:
    peer.server.says(Answer())

    def again(*, used: bool) -> Any:
        llm = peer.make()
        if used:
            llm.complete(QUESTION)
        data = pickle.dumps(llm)
        return len(data), pickle.loads(data).complete("?").text

    return {"new": tried(again, used=False), "used": tried(again, used=True)}


ROWS: dict[str, Callable[[Peer], Json]] = {
    "a prompt that is too long": too_long,
    "stop strings": stops,
    "keywords of a call": keywords,
    "unknown keywords": unknown,
    "pictures, audio, files": pictures,
    "valid objects whatever the weights": objects,
    "tool calls that fit their schemas": tools,
    "`predict_and_call`": called,
    "copies share the weights": copies,
    "pickles without weights": pickles,
}
