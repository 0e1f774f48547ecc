"""Rows of the table about tools, agents and objects: what is sent, what is made of an answer."""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import itertools
import json
import operator
import uuid
from typing import Any, TypedDict

import pydantic
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

from benchmarks.peers.peer import QUESTION, WAYS, Peer, error_of, told_once
from benchmarks.peers.protocols import Answer, Json
from benchmarks.report import tried

METHODS = ("json_schema", "function_calling", "json_mode")
CALL = ("get_weather", {"city": "Paris"})


@tool
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"{city}: 21 degrees"


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


class Person(pydantic.BaseModel):
    """A person."""

    name: str
    age: int


class Place(TypedDict):
    """A place."""

    city: str


class When(pydantic.BaseModel):
    """Values that have formats."""

    day: datetime.date
    moment: datetime.datetime
    hour: datetime.time
    span: datetime.timedelta
    key: uuid.UUID
    address: ipaddress.IPv4Address
    site: pydantic.HttpUrl
    price: decimal.Decimal


SCHEMA = {
    "title": "book",
    "description": "Book a room.",
    "type": "object",
    "properties": {"room": {"type": "integer"}},
    "required": ["room"],
}
OPENAI = {"type": "function", "function": {"name": "now", "description": "Tell the time.",
          "parameters": {"type": "object", "properties": {}}}}  # fmt: skip
TOOLS: list[Any] = [get_weather, add, Person, Place, SCHEMA, OPENAI]
PERSON = {"name": "Lena", "age": 30}
WHEN = {
    "day": "2024-02-29",
    "moment": "2024-02-29T12:30:00Z",
    "hour": "12:30:00",
    "span": "PT1H30M",
    "key": "8d777f38-5d3d-4dbd-9c2b-1f6a9d7f0c11",
    "address": "10.0.0.1",
    "site": "https://example.com/a",
    "price": "12.50",
}


def kinds_of_tools(peer: Peer) -> Json:
    peer.server.says(Answer(call=CALL))
    calls = peer.every_way(peer.make().bind_tools(TOOLS), _names_and_arguments)

    def sent(one: Any) -> Any:
        peer.make().bind_tools([one]).invoke(QUESTION)
        (found,) = peer.body()["tools"]
        return found["function"]["name"], found["function"].get("parameters", {}).get("properties")

    kinds = ("tool", "function", "pydantic", "TypedDict", "schema", "openai")
    shown = {kind: tried(sent, one) for kind, one in zip(kinds, TOOLS, strict=True)}
    return {"sent": shown, "calls": calls}


def tool_choice(peer: Peer) -> Json:
    peer.server.says(Answer(call=CALL))

    def sent(choice: Any) -> Any:
        peer.make().bind_tools([get_weather], tool_choice=choice).invoke(QUESTION)
        return peer.body().get("tool_choice", "not sent")

    choices = ("auto", "any", "required", True, "get_weather", "none")
    return {str(choice): tried(sent, choice) for choice in choices}


def fragments(peer: Peer) -> Json:
    peer.server.says(Answer(call=CALL))
    bound = peer.make().bind_tools([get_weather])

    def seen(way: str) -> Any:
        parts = peer.parts(way, bound)
        chunks = [chunk for part in parts for chunk in part.tool_call_chunks]
        named = sum(bool(chunk["name"]) for chunk in chunks)
        return f"{len(chunks)} fragments, {named} with the name", _names_and_arguments(
            peer.ask(way, bound)
        )

    return {way: tried(seen, way) for way in ("stream", "astream")}


def agents(peer: Peer) -> Json:
    from langchain.agents import create_agent
    from langgraph.checkpoint.memory import InMemorySaver

    def script(body: Json) -> Answer:
        last = body["messages"][-1]
        if last["role"] == "tool":
            return Answer((f"It is {last['content']}",))
        return Answer(call=CALL)

    def seen(way: str) -> Any:
        peer.server.says(script)
        agent = create_agent(peer.make(), [get_weather], checkpointer=InMemorySaver())
        thread: Any = {"configurable": {"thread_id": way}}
        for text in ("How is the weather in Paris?", "And now?"):
            peer.parts(way, agent, {"messages": [HumanMessage(text)]}, config=thread)
        told = agent.get_state(thread).values["messages"]
        roles = [message["role"] for message in peer.body()["messages"]]
        return [message.type for message in told], told[-1].content, roles

    return told_once({way: tried(seen, way) for way in WAYS})


def objects(peer: Peer) -> Json:
    """How many of the settings give the object in every way; of the others, what was seen."""
    peer.server.says(_object(PERSON))
    right, other = 0, {}
    for method, raw, strict in itertools.product(METHODS, (False, True), (None, False, True)):
        more = {} if strict is None else {"strict": strict}
        try:
            model = peer.make().with_structured_output(
                Person, method=method, include_raw=raw, **more
            )
        except Exception as error:
            other[f"{method}, raw={raw}, strict={strict}"] = f"{type(error).__name__}: {error}"
            continue
        seen = peer.every_way(model, operator.itemgetter("parsed") if raw else _same)
        if seen == {"every way": repr(Person.model_validate(PERSON))}:
            right += 1
        else:
            other[f"{method}, raw={raw}, strict={strict}"] = str(seen)
    return {"right in every way": f"{right} of 18 settings", "others": other}


def cut_object(peer: Peer) -> Json:
    peer.server.says(Answer(('{"name": "Le',), finish="length"))

    def parsing_error(model: Any) -> str:
        return type(model.invoke(QUESTION)["parsing_error"]).__name__

    found = {}
    for method in ("json_schema", "json_mode"):
        model = peer.make().with_structured_output(Person, method=method)
        raw = peer.make().with_structured_output(Person, method=method, include_raw=True)
        found[method] = {
            "invoke": tried(model.invoke, QUESTION),
            "stream": tried(peer.ask, "stream", model),
            "raw": tried(parsing_error, raw),
            "error": error_of(model.invoke, QUESTION),
        }
    return found


def dates(peer: Peer) -> Json:
    peer.server.says(_object(WHEN))

    def formats(method: str) -> Any:
        peer.make().with_structured_output(When, method=method).invoke(QUESTION)
        text = json.dumps(peer.body())
        return sorted({part.split('"')[0] for part in text.split('"format": "')[1:]})

    def read(method: str) -> Any:
        model = peer.make().with_structured_output(When, method=method)
        return model.invoke(QUESTION) == When.model_validate(WHEN)

    return {
        method: {
            "formats sent": tried(formats, method),
            "read": tried(read, method),
        }
        for method in METHODS
    }


def schema_and_tools(peer: Peer) -> Json:
    def seen(answer: Answer, raw: bool) -> Any:
        peer.server.says(answer)
        model = peer.make().with_structured_output(
            Person, method="json_schema", include_raw=raw, tools=[get_weather], strict=True
        )
        told = model.invoke(QUESTION)
        sent = [name for name in ("tools", "response_format", "format") if peer.body().get(name)]
        if not raw:
            return sent, told
        return sent, told["parsed"], _names_and_arguments(told["raw"]), told["parsing_error"]

    said = {"object": Answer((json.dumps(PERSON),)), "call": Answer(call=CALL)}
    return {
        f"{kind}, include_raw={raw}": tried(seen, answer, raw)
        for kind, answer in said.items()
        for raw in (True, False)
    }


def _object(value: Json) -> Any:
    """A script that answers with an object: as a call where a tool is forced, else as text."""

    def script(body: Json) -> Answer:
        if body.get("tools"):
            return Answer(call=(body["tools"][0]["function"]["name"], value))
        text = json.dumps(value)
        return Answer((text[:9], text[9:]))

    return script


def _same(answer: Any) -> Any:
    return answer


def _names_and_arguments(message: Any) -> Any:
    return [(call["name"], call["args"]) for call in message.tool_calls]


ROWS = {
    "tools of every kind": kinds_of_tools,
    "tool_choice enforced": tool_choice,
    "calls stream in fragments": fragments,
    "agents, with a checkpointer": agents,
    "objects: 3 methods, include_raw, strict, every way": objects,
    "whole at max_tokens, on random weights": cut_object,
    "dates and their like are read by the class": dates,
    "a schema and tools together": schema_and_tools,
}
