"""Agents: tasks of two steps that LangChain's ``create_agent`` has to finish with the right tools.

Every task asks for something about a person's thing, so that its number must be found first, and
offers at least five tools. Nouns of the tools, names and values are those kept out of the training
of aquila2-demo. Nothing is forced: the weights choose (``auto``). Run it with

    python -m benchmarks.agents [MODEL] [--count 50] [--out FILE.json] [--show]
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import StructuredTool

from benchmarks.report import tell
from langchain_aquila2 import ChatAquila2
from training.aquila2_demo import tool_results, toolbox
from training.aquila2_demo.lexicon import Words
from training.aquila2_demo.measures import plain
from training.aquila2_demo.tool_families import FAMILIES
from training.aquila2_demo.toolbox import Made

PACKAGES = ("langchain", "langchain-core", "langgraph", "torch")
TOOLS = 5
SEED = 20_000
WISHES = {
    "en": {
        "status": "What is the status of {owner}'s {noun}?",
        "cancel": "Cancel {owner}'s {noun}.",
    },
    "zh": {"status": "{owner}的{noun}状态怎么样？", "cancel": "取消{owner}的{noun}。"},
}
# Two calls and an answer are five messages; what has not ended by then goes round in circles.
MOST_STEPS = 12


@dataclasses.dataclass(frozen=True)
class Task:
    """A question, its tools, and what solves it.

    Attributes:
        said: The question.
        tools: All that are offered.
        calls: The two calls, each a tool's name and its arguments.
        results: What those calls return.
        answer: What the last result says.
    """

    said: str
    tools: tuple[Made, ...]
    calls: tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]]
    results: tuple[str, str]
    answer: str

    def offered(self) -> list[StructuredTool]:
        """The tools as LangChain's; a call that is not one of the two finds nothing."""
        return [self._tool(made) for made in self.tools]

    def _tool(self, made: Made) -> StructuredTool:
        name = made.tool.name

        def run(**arguments: Any) -> str:
            for call, result in zip(self.calls, self.results, strict=True):
                if call == (name, arguments):
                    return result
            return "error: not found"

        schema = dict(made.tool.schema)
        schema = {"type": "object", "properties": {}, **schema}
        about = made.tool.description or name
        return StructuredTool(name=name, description=about, args_schema=schema, func=run)


def make_task(words: Words) -> Task:
    """Draw a task: find the number of somebody's thing, then ask for its state or cancel it."""
    rng = words.rng
    finder = next(family for family in FAMILIES if family.tail == "_id")
    later = [f for f in FAMILIES if f.tail == "_status" or f.verbs.startswith("cancel")]
    pool, after = toolbox.nouns(words), rng.choice(later)
    noun = rng.choice(pool)
    find, then = toolbox.make(words, finder, noun), toolbox.make(words, after, noun)
    made = [find, then]
    while len(made) < TOOLS:
        other = rng.choice([one for one in pool if one != noun])
        one = toolbox.make(words, rng.choice(FAMILIES), other)
        if all(one.tool.name != known.tool.name for known in made):
            made.append(one)
    rng.shuffle(made)
    owner, number, shown = words.person(), rng.randint(10, 9999), noun[1 if words.zh else 0]
    wish = "status" if after.tail == "_status" else "cancel"
    said = WISHES[words.lang][wish].format(owner=owner, noun=shown)
    names = [next(iter(one.tool.schema["properties"])) for one in (find, then)]
    content, answer = tool_results.result(words, then)
    found = rng.choice([str(number), json.dumps({"id": number}), json.dumps({"number": number})])
    calls = ((find.tool.name, {names[0]: owner}), (then.tool.name, {names[1]: number}))
    return Task(said, tuple(made), calls, (found, content), answer)


def tasks(count: int) -> list[Task]:
    """Draw tasks, half of them Chinese; always the same ones."""
    sources = [Words(random.Random(SEED), lang, held=True) for lang in ("en", "zh")]
    return [make_task(sources[number % 2]) for number in range(count)]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How far a task came: its first call, both calls and nothing else, and the answer."""

    first: bool
    both: bool
    solved: bool
    said: str


def judge(task: Task, messages: Sequence[Any]) -> Outcome:
    """Compare what an agent did with what solves the task."""
    answers = [message for message in messages if isinstance(message, AIMessage)]
    calls = [(call["name"], call["args"]) for one in answers for call in one.tool_calls]
    last = str(answers[-1].text) if answers else ""
    both = calls == list(task.calls)
    told = plain(task.answer) in plain(last)
    said = " → ".join([*(f"{name}{args}" for name, args in calls), last])
    return Outcome(calls[:1] == [task.calls[0]], both, both and told, said)


def run(chat: ChatAquila2, task: Task) -> Outcome:
    """Let an agent work on one task."""
    agent = create_agent(chat, task.offered())
    try:
        state = agent.invoke(
            {"messages": [HumanMessage(task.said)]}, {"recursion_limit": MOST_STEPS}
        )
    except Exception as error:
        return Outcome(False, False, False, f"{type(error).__name__}: {error}")
    return judge(task, state["messages"])


def share(hits: Sequence[bool]) -> dict[str, float]:
    """A share and its standard error."""
    rate = sum(hits) / max(1, len(hits))
    return {
        "rate": round(rate, 4),
        "error": round(math.sqrt(rate * (1 - rate) / max(1, len(hits))), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="aquila2-demo")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", action="store_true", help="print what was not solved")
    options = parser.parse_args()
    asked = tasks(options.count)
    with ChatAquila2(model=options.model, device=options.device, temperature=0) as chat:
        limited = chat.model_copy(update={"max_tokens": 128})
        found = [run(limited, task) for task in asked]
    for task, outcome in zip(asked, found, strict=True):
        if options.show and not outcome.solved:
            print(f"{task.said}\n   wanted {task.calls} {task.answer!r}\n   got {outcome.said}")
    result = {
        "model": options.model,
        "tasks": len(asked),
        "tools": TOOLS,
        "solved": share([one.solved for one in found]),
        "both calls right": share([one.both for one in found]),
        "first call right": share([one.first for one in found]),
        "solved, English": share([one.solved for one in found[::2]]),
        "solved, Chinese": share([one.solved for one in found[1::2]]),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    tell(result, options.out)


if __name__ == "__main__":
    main()
