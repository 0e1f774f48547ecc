"""Rows of the table about the model as an object: copies, dumps, keys, counts, what it says it is.

And about messages: names, blocks, pictures.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import os
import pickle
import socket
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any
from unittest import mock

from langchain_core.caches import InMemoryCache
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import ConfigurableField

from benchmarks.peers.peer import QUESTION, Peer
from benchmarks.peers.protocols import Answer, Json
from benchmarks.report import tried

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAE"
    "hQGAhKmMIQAAAABJRU5ErkJggg=="
)
TOOL = {"title": "now", "description": "Tell the time.", "type": "object", "properties": {}}


def counts(peer: Peer) -> Json:
    messages = [SystemMessage("Be brief."), HumanMessage(QUESTION)]

    def told(**more: Any) -> Json:
        with _offline(), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            seen = tried(lambda: peer.make().get_num_tokens_from_messages(messages, **more))
        return {"count": seen, "warnings": [str(one.message) for one in warned]}

    return {"messages": told(), "with tools": told(tools=[TOOL])}


def keys(peer: Peer) -> Json:
    settings: list[Json] = [
        {},
        {"model": "another"},
        {"base_url": "http://127.0.0.1:1/v1"},
        {"temperature": 0.5},
        {"seed": 1},
        {peer.limit: 5},
        {"stop": ["x"]},
        {"logprobs": True},
        {"top_p": 0.5},
    ]
    made: dict[str, list[str]] = {}
    for one in settings:
        made.setdefault(peer.make(**one)._get_llm_string(), []).append(str(one))
    model = peer.make()
    made.setdefault(model._get_llm_string(stop=["y"]), []).append("stop of a call")
    peer.server.says(Answer())
    cache = InMemoryCache()
    for name in ("one", "one", "another"):
        peer.make(model=name, cache=cache).invoke(QUESTION)
    return {
        "collide": [ones for ones in made.values() if len(ones) > 1],
        "models asked, where one, one and another share a cache": len(peer.server.asked),
    }


def dumped(peer: Peer) -> Json:
    peer.server.says(Answer())
    model = peer.make(temperature=0.5, seed=3, stop=["a"])

    def ask(one: Any) -> Json:
        one.invoke(QUESTION)
        return peer.server.asked[-1].body

    def again() -> Any:
        text = dumps(model)
        one = loads(
            text,
            allowed_objects=[peer.kind],
            valid_namespaces=[peer.kind.__module__.split(".")[0]],
            secrets_map={"OPENAI_API_KEY": "x"},
        )
        if not isinstance(one, peer.kind):
            return f"{type(one).__name__}: {one}"[:200]
        return "asks the same" if ask(one) == ask(model) else "asks something else"

    return {"through JSON": tried(again)}


def pickled(peer: Peer) -> Json:
    return {
        "new": tried(lambda: len(pickle.dumps(peer.make()))),
        "read back": tried(lambda: type(pickle.loads(pickle.dumps(peer.make()))).__name__),
    }


def copies(peer: Peer) -> Json:
    peer.server.says(Answer())
    model = peer.make(temperature=0.25)

    def told(one: Any, **more: Any) -> Any:
        one.invoke(QUESTION, **more)
        return peer.body().get("temperature")

    def configured() -> Any:
        field = model.configurable_fields(temperature=ConfigurableField(id="warmth"))
        return told(field.with_config(configurable={"warmth": 0.75}))

    found = {
        "model_copy(temperature=0.5)": tried(
            lambda: told(model.model_copy(update={"temperature": 0.5}))
        ),
        "copy": tried(lambda: told(copy.copy(model))),
        "deepcopy": tried(lambda: told(copy.deepcopy(model))),
        "configurable 0.75": tried(configured),
    }
    peer.server.says(Answer())
    peer.make().model_copy(update={"seed": 1}).bind_tools([TOOL])
    return {**found, "requests until the first question": len(peer.server.asked)}


def names_and_blocks(peer: Peer) -> Json:
    peer.server.says(Answer())
    one: Any = {"type": "text", "text": "One."}
    plain: Any = {"type": "text-plain", "mime_type": "text/plain", "text": "It says so."}
    asked: dict[str, list[Any]] = {
        "names": [HumanMessage("Hi", name="Lena"), AIMessage("Yes?", name="bot"),
                  HumanMessage("?", name="Omar")],
        "text blocks": [HumanMessage([one, "Two."])],
        "v1 text blocks": [HumanMessage(content_blocks=[one])],
        "v1 plain text": [HumanMessage(content_blocks=[plain])],
    }  # fmt: skip

    def sent(messages: list[Any]) -> Any:
        peer.make().invoke(messages)
        return peer.body()["messages"]

    found = {kind: tried(sent, messages) for kind, messages in asked.items()}
    blocks = tried(lambda: peer.make(output_version="v1").invoke(QUESTION).content)
    return {**found, "v1 answer": blocks}


def images(peer: Peer) -> Json:
    peer.server.says(Answer())
    url = "http://example.invalid/x.png"

    def sent(block: Json) -> Any:
        with _offline():
            peer.make().invoke([HumanMessage([block])])
        message = peer.body()["messages"][-1]
        return {name: message[name] for name in ("content", "images") if message.get(name)}

    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        file.write(base64.b64decode(PIXEL))
        file.flush()
        asked: dict[str, Json] = {
            "address": {"type": "image_url", "image_url": {"url": url}},
            "path of a file": {"type": "image_url", "image_url": {"url": file.name}},
            "data": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            "v1 address": {"type": "image", "url": url},
            "v1 data": {"type": "image", "base64": PIXEL, "mime_type": "image/png"},
            "v1 audio": {"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"},
        }
        found = {kind: tried(sent, one) for kind, one in asked.items()}
    short = {PIXEL: "THE PICTURE", file.name: "THE PATH"}
    for long, name in short.items():
        found = {kind: seen.replace(long, name) for kind, seen in found.items()}
    return found


def profile(peer: Peer) -> Json:
    return {
        "of its model": tried(lambda: peer.make().profile),
        "of an unknown model": tried(lambda: peer.make(model="aquila2-demo").profile),
    }


def tracers(peer: Peer) -> Json:
    model = peer.make(temperature=0.5, stop=["a"], **{peer.limit: 7})
    return {
        "call's stop": tried(lambda: model._get_ls_params(stop=["b"])),
        "call's model": tried(
            lambda: model._get_ls_params(
                model="another", temperature=1.0, **{peer.limit: 9, "max_tokens": 9}
            )
        ),
    }


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """No name is found but this machine's, and nothing is kept from earlier."""
    find = socket.getaddrinfo

    def here(host: Any, *args: Any, **keywords: Any) -> Any:
        if host not in ("127.0.0.1", b"127.0.0.1"):
            raise socket.gaierror(socket.EAI_NONAME, f"offline: {host}")
        return find(host, *args, **keywords)

    with tempfile.TemporaryDirectory() as empty:
        kept = {"TIKTOKEN_CACHE_DIR": empty, "HF_HOME": empty, "HF_HUB_OFFLINE": "1"}
        with mock.patch.dict(os.environ, kept), mock.patch("socket.getaddrinfo", here):
            yield


ROWS = {
    "offline counts are the prompt's, tools included": counts,
    "cache keys tell models and settings apart": keys,
    "dump and load, through JSON": dumped,
    "pickled without weights": pickled,
    "copies and configurable fields load nothing": copies,
    "content blocks, v1 too; names": names_and_blocks,
    "images refused by name, nothing fetched": images,
    "model profile": profile,
    "what tracers are told (`ls_params`)": tracers,
}
