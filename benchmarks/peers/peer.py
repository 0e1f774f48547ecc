"""A chat model class of LangChain's, asked over the server in each of six ways.

It knows langchain_core, the server and no class: which one it is, is given.
"""

from __future__ import annotations

import asyncio
import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessageChunk

from benchmarks.peers.protocols import Json
from benchmarks.peers.server import Server
from benchmarks.report import tried

QUESTION = "What is the capital of France?"
WAYS = ("invoke", "stream", "batch", "ainvoke", "astream", "abatch")
CORE = "langchain_core.exceptions"
RAW = {"raw", "parsed", "parsing_error"}


@dataclass(frozen=True)
class Peer:
    """One class.

    Attributes:
        name: What the table calls it.
        server: Whom it asks.
        build: Makes a model from fields, the address being known.
        kind: The class itself.
        limit: Its constructor's word for the most tokens of an answer.
        loop: Where its coroutines run.
    """

    name: str
    server: Server
    build: Callable[..., Any]
    kind: type[Any]
    limit: str
    loop: asyncio.Runner

    def make(self, **fields: Any) -> Any:
        """A model of these fields."""
        return self.build(**fields)

    def body(self) -> Json:
        """The last request, Ollama's options beside everything else."""
        body = self.server.asked[-1].body
        return {**body.get("options", {}), **body}

    def sent(self, name: str, fields: Json | None = None, **keywords: Any) -> str:
        """What the server is sent by a name, for fields of the model and keywords of a call."""

        def ask() -> Any:
            self.make(**fields or {}).invoke(QUESTION, **keywords)
            return self.body().get(name)

        return tried(ask)

    def ask(self, way: str, model: Any, question: Any = QUESTION, **keywords: Any) -> Any:
        """The whole answer in one of the ways: chunks of messages add up, other parts replace."""
        return _joined(self.parts(way, model, question, **keywords))

    def parts(self, way: str, model: Any, question: Any = QUESTION, **keywords: Any) -> list[Any]:
        """What comes of asking, as a list: of one, unless it is a stream's."""

        async def streamed() -> list[Any]:
            return [part async for part in model.astream(question, **keywords)]

        if way == "astream":
            return self.loop.run(streamed())
        ask = getattr(model, way)
        made = ask([question] if "batch" in way else question, **keywords)
        if way.startswith("a"):
            made = self.loop.run(made)
        return list(made) if way in ("stream", "batch", "abatch") else [made]

    def every_way(self, model: Any, see: Callable[[Any], Any]) -> Json:
        """What is seen of the answer in each way; one entry where all are the same."""

        def seen(way: str) -> Any:
            return see(self.ask(way, model))

        return told_once({way: tried(seen, way) for way in WAYS})


def _joined(parts: list[Any]) -> Any:
    """What a stream comes to: chunks of messages add up, of dicts members, others replace."""
    if not parts:
        return None
    if all(isinstance(part, AIMessageChunk) for part in parts):
        return functools.reduce(operator.add, parts)
    if all(isinstance(part, dict) and set(part) <= RAW for part in parts):
        return functools.reduce(operator.or_, parts)
    return parts[-1]


def told_once(found: dict[str, str]) -> Json:
    """What was seen in each way; one entry where all are the same."""
    return {"every way": found["invoke"]} if len(set(found.values())) == 1 else dict(found)


def error_of(ask: Callable[..., Any], *given: Any) -> str:
    """The type of a call's error, and those of its types that are LangChain's."""
    try:
        return f"no error: {ask(*given)!r}"[:100]
    except Exception as error:
        kinds = [kind for kind in type(error).__mro__ if kind.__module__ == CORE]
        known = ", ".join(kind.__name__ for kind in kinds)
        return f"{type(error).__name__} ({known or 'no error of LangChain'})"
