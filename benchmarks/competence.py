"""The six tests of LangChain's suite that need ability, asked again with other tools and values.

A checkpoint can know the suite's own six prompts by heart. These ask the same of tools and values
that are drawn: names of functions and places, numbers, names of companies. Nothing here is forced
but what the suite forces itself. Run it with

    python -m benchmarks.competence [MODEL] [--count 25] [--out FILE.json] [--show]
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib.metadata
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import StructuredTool

from benchmarks.agents import PACKAGES, share
from benchmarks.report import tell
from langchain_aquila2 import ChatAquila2
from training.aquila2_demo.lexicon import Words

SEED = 30_000
KINDS = ("secret", "hidden", "silver", "double", "strange", "second", "quiet", "golden")
THINGS = ("weather", "traffic", "tide", "forecast", "air_quality", "temperature")
STATES = (
    "It's cloudy.",
    "It's rainy.",
    "Calm and dry.",
    "18 degrees.",
    "Heavy fog.",
    "It's windy.",
)
SUBJECTS = ("supplier", "client", "partner", "member", "vendor", "guest")
KANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわん"
Asked = tuple[bool, str]


def function(rng: random.Random) -> tuple[StructuredTool, str, dict[str, int]]:
    """A tool like the suite's ``magic_function``, the question, and the arguments it asks for."""
    name, argument = f"{rng.choice(KINDS)}_function", rng.choice(("input", "x", "n", "value"))
    number = rng.randint(2, 99)
    schema = {
        "type": "object",
        "properties": {argument: {"type": "integer"}},
        "required": [argument],
    }
    about = f"Apply a {name.split('_', maxsplit=1)[0]} function to an input."
    tool = StructuredTool(
        name=name, description=about, args_schema=schema, func=lambda **given: sum(given.values())
    )
    return tool, f"What is the value of {name}({number})? Use the tool.", {argument: number}


def called(message: AIMessage, name: str, args: dict[str, Any]) -> Asked:
    """Whether a message makes exactly this call."""
    calls = [(call["name"], call["args"]) for call in message.tool_calls]
    return calls == [(name, args)], f"{calls or message.text!r}, wanted {name}({args})"


def tool_calling(chat: BaseChatModel, rng: random.Random, way: str) -> Asked:
    """``test_tool_calling`` and ``test_tool_calling_async``: one call with the number said."""
    tool, question, args = function(rng)
    bound = chat.bind_tools([tool])
    if way == "invoke":
        message = bound.invoke(question)
    elif way == "stream":
        message = functools.reduce(lambda one, other: one + other, bound.stream(question))
    else:
        message = asyncio.run(bound.ainvoke(question))
    return called(message, tool.name, args)


def agent_loop(chat: BaseChatModel, rng: random.Random, way: str) -> Asked:
    """``test_agent_loop``: one call about the place, and an answer that says what came back.

    The suite looks at the call only (``way="call"``).
    """
    words = Words(rng, "en", held=True)
    thing, place, state = rng.choice(THINGS), words.city(), rng.choice(STATES)
    argument = rng.choice(("location", "city", "place"))
    schema = {
        "type": "object",
        "properties": {argument: {"type": "string"}},
        "required": [argument],
    }
    said = thing.replace("_", " ")
    tool = StructuredTool(
        name=f"get_{thing}",
        description=f"Get the {said} at a location.",
        args_schema=schema,
        func=lambda **given: state,
    )
    bound = chat.bind_tools([tool])
    asked = HumanMessage(f"What is the {said} in {place}?")
    first = bound.invoke([asked])
    right, seen = called(first, tool.name, {argument: place})
    if not right or way == "call":
        return right, seen
    last = bound.invoke([asked, first, tool.invoke(first.tool_calls[0])])
    return state.rstrip(".") in str(last.text), f"{seen} then {last.text!r}, wanted {state!r}"


def unicode_call(chat: BaseChatModel, rng: random.Random, way: str) -> Asked:
    """``test_unicode_tool_call_integration``: a name in Chinese or Japanese, copied whole.

    The suite is content with one character of it.
    """
    subject = rng.choice(SUBJECTS)
    if way == "Chinese":
        name = Words(rng, "zh", held=True).han(rng.randint(2, 4)) + rng.choice(
            ("集团", "公司", "商店")
        )
        what = "a Chinese company"
    else:
        name = "".join(rng.choice(KANA) for _ in range(rng.randint(3, 6))) + "株式会社"
        what = "a Japanese company"
    schema = {
        "type": "object",
        "properties": {f"{subject}_name": {"type": "string"}, "description": {"type": "string"}},
        "required": [f"{subject}_name", "description"],
    }
    tool = StructuredTool(
        name=f"create_{subject}",
        description=f"Tool for creating a {subject} with Unicode name.",
        args_schema=schema,
        func=lambda **given: "ok",
    )
    bound = chat.bind_tools([tool], tool_choice="any")
    message = bound.invoke(f"Create a {subject} named '{name}' - {what}")
    found = [call["args"].get(f"{subject}_name") for call in message.tool_calls]
    return found[:1] == [name], f"{found}, wanted {name!r}"


TESTS: dict[str, tuple[Callable[..., Asked], str]] = {
    "tool_calling, invoke": (tool_calling, "invoke"),
    "tool_calling, stream": (tool_calling, "stream"),
    "tool_calling_async": (tool_calling, "ainvoke"),
    "agent_loop, the call": (agent_loop, "call"),
    "agent_loop, and the answer": (agent_loop, "answer"),
    "unicode_tool_call, Chinese": (unicode_call, "Chinese"),
    "unicode_tool_call, Japanese": (unicode_call, "Japanese"),
}


def measure(chat: BaseChatModel, count: int, show: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each test's name and the share of its variants that were right."""
    for name, (ask, way) in TESTS.items():
        rng, hits = random.Random(SEED), []
        for _ in range(count):
            right, seen = ask(chat, rng, way)
            hits.append(right)
            if show and not right:
                print(f"{name}: {seen}")
        yield name, share(hits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="aquila2-demo")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--count", type=int, default=25)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", action="store_true", help="print what was wrong")
    options = parser.parse_args()
    given: dict[str, Any] = {"temperature": 0, "max_tokens": 96}
    with ChatAquila2(model=options.model, device=options.device, **given) as chat:
        found = dict(measure(chat, options.count, options.show))
    result = {
        "model": options.model,
        "variants of each": options.count,
        "right": found,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    tell(result, options.out)


if __name__ == "__main__":
    main()
