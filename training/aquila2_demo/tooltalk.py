"""Owns talks with tools: requests answered by calls, results answered in words, and neither."""

from __future__ import annotations

import json
from typing import Any

from aquila2_runtime.tools import ToolCall, tools_text

from . import replies, toolbox
from .fixed_tools import FIXED
from .lexicon import Words
from .reading import reading
from .relation_tools import ACTIONS, ENQUIRIES, apart, look_ups
from .smalltalk import greeting
from .talk import Conversation
from .tool_families import FAMILIES
from .tool_results import result
from .toolbox import Made

SYSTEMS = {
    "en": [
        "You are a helpful assistant.",
        "You are the assistant of a shop.",
        "Use the tools when they help.",
        "You help people at the office.",
    ],
    "zh": ["你是一个有用的助手。", "你是商店的助手。", "需要时请使用工具。", "你是办公室的助手。"],
}
REMINDERS = {
    "en": ["Use the tool.", "Use a tool.", "Please use the tools.", "Thank you.", "It is urgent."],
    "zh": ["请使用工具。", "用工具查一下。", "谢谢。", "很急。"],
}
# Between requests of one turn.
JOINTS = {"en": [*" " * 6, " Also: ", "\n", " Then: "], "zh": [*[""] * 6, "另外，", "\n", "然后"]}
# What a search, or data about a place, may bring as well: whatever is wanted to be known.
GENERAL = [f for f in FIXED if f.verbs == "search|query" or "=mayor" in f.tail]
SPOKEN = 0.25  # of the results in training; measured are values, as they were
UNNAMED = ("", "")
STRANGE = 0.06  # of the requests in drills: none of the tools is for the thing


def offer(words: Words, count: int, noun: tuple[str, ...] | None = None) -> list[Made]:
    """Makes tools with different names, some about one thing, some of one family."""
    rng, made = words.rng, list[Made]()
    pool = toolbox.nouns(words)
    shared = noun or rng.choice(pool)
    family = rng.choice(FAMILIES)
    seen: set[tuple[str, str]] = set()
    while len(made) < count:
        r = rng.random()
        one = toolbox.make(
            words,
            family if r < 0.25 else rng.choice(FIXED if r > 0.78 else FAMILIES),
            shared if 0.25 <= r < 0.6 else rng.choice(pool),
        )
        fixed = one.family in FIXED
        key = (one.family.tail + one.family.verbs, "" if fixed else one.noun[0])
        if key not in seen and all(one.tool.name != m.tool.name for m in made):
            seen.add(key)
            made.append(one)
    rng.shuffle(made)
    return made


def rivals(words: Words, count: int) -> list[Made]:
    """Makes tools that only what they are about, or only what they do, tells apart."""
    rng, r = words.rng, words.rng.random()
    if r < 0.3:
        return offer(words, count)
    made, pool, keys = list[Made](), toolbox.nouns(words), list[str]()
    if r < 0.6:
        family = rng.choice(FAMILIES + ACTIONS[::3])
        for noun in rng.sample(list(dict.fromkeys(pool)), count):
            made.append(toolbox.make(words, family, noun))
        return _one_name_each(made)
    if r < 0.8:
        noun = rng.choice(pool)
        for family in rng.sample(FAMILIES + ACTIONS, count):
            made.append(toolbox.make(words, family, noun))
        return _one_name_each(made)
    for key, family in rng.sample(look_ups(words.lang), count):
        if words.chance(0.45):
            made.append(toolbox.make(words, rng.choice(FIXED + ENQUIRIES), UNNAMED))
        elif apart(keys, key):
            keys.append(key)
            made.append(toolbox.make(words, family, UNNAMED))
    return _one_name_each(made)


def _one_name_each(made: list[Made]) -> list[Made]:
    """Drops tools that do what another one does or have its name."""
    sorts = {(m.family.verbs + m.family.tail, m.noun): m for m in made}
    kept = {m.tool.name: m for m in sorts.values()}
    return list(kept.values())


def system_text(words: Words, made: list[Made], given: str | None = None) -> str:
    """Renders a system message and the tools as the runtime does."""
    if given is None:
        given = words.rng.choice(SYSTEMS[words.lang]) if words.chance(0.4) else ""
    shown = tools_text([m.tool for m in made])
    return f"{given}\n\n{shown}" if given else shown


def _turns(words: Words, made: Made, plain: bool, spoken: float = 0.0) -> list[tuple[str, str]]:
    ask = toolbox.by_name if words.chance(0.1) else toolbox.request
    text, arguments = ask(words, made)
    if words.chance(0.12):
        # Another sentence is not another request: one call answers it.
        text += ("" if words.zh else " ") + words.rng.choice(REMINDERS[words.lang])
    turns = [(text, ToolCall(made.tool.name, arguments).text)]
    if plain:
        content, answer = result(words, made, spoken)
        turns.append((f"Tool result ({made.tool.name}):\n{content}", answer))
    return turns


def calling(
    words: Words,
    count: int,
    requests: int,
    results: float = 0.6,
    offered: list[Made] | None = None,
    spoken: float = 0.0,
    strange: float = 0.0,
) -> Conversation:
    """Offers tools, drawn unless given, and makes requests that each need one of them.

    A share `strange` of the requests wants what one of them does done to something else.
    """
    made = offered or offer(words, count)
    turns: list[tuple[str, str]] = []
    for _ in range(requests):
        if words.chance(strange) and (text := _strange(words, made)):
            turns.append((text, replies.NO_TOOL[words.lang]))
            continue
        turns += _turns(words, words.rng.choice(made), words.chance(results), spoken)
    return Conversation(system_text(words, made), tuple(turns))


def _foreign(noun: tuple[str, ...], made: list[Made]) -> bool:
    """Says whether no tool is about the noun; an invented pair shares a word with a known one."""
    return not any(set(noun) & set(m.noun) for m in made)


def _strange(words: Words, made: list[Made]) -> str:
    """Asks for what a tool here does, of a thing that none here is for; empty where one may do."""
    families = [m.family for m in made if m.noun != UNNAMED and m.family in FAMILIES]
    if any(m.family in GENERAL for m in made):
        families = [f for f in families if f.result == "done"]
    if not families:
        return ""
    noun = words.rng.choice([n for n in toolbox.nouns(words) if _foreign(n, made)])
    text, _ = toolbox.request(words, toolbox.make(words, words.rng.choice(families), noun))
    return text


def several(words: Words, count: int) -> Conversation:
    """Makes one request that needs two calls at once."""
    made = offer(words, max(2, count))
    wanted = words.rng.sample(made, 2)
    turns = [_at_once(words, wanted, "" if words.zh else " ")]
    if words.chance(0.5):
        turns += _turns(words, wanted[0], True)
    return Conversation(system_text(words, made), tuple(turns))


def _at_once(words: Words, wanted: list[Made], joint: str) -> tuple[str, str]:
    """Asks for several things in one turn; the answer is a call for each, in their order."""
    asked = [toolbox.request(words, one) for one in wanted]
    # The same thing said twice may be meant once.
    while len(wanted) == 2 and wanted[0] is wanted[1] and asked[0][1] == asked[1][1]:
        asked[1] = toolbox.request(words, wanted[1])
    calls = [ToolCall(m.tool.name, a).text for m, (_, a) in zip(wanted, asked, strict=True)]
    return joint.join(text for text, _ in asked), "\n".join(calls)


def many_at_once(words: Words, count: int, requests: int) -> Conversation:
    """Makes requests that need one to three calls each, sometimes of one tool."""
    made = rivals(words, max(2, count))
    turns: list[tuple[str, str]] = []
    for _ in range(requests):
        r, joint = words.rng.random(), words.rng.choice(JOINTS[words.lang])
        if r < 0.2:
            turns += _turns(words, words.rng.choice(made), False)
            continue
        wanted = words.rng.sample(made, min(len(made), 2 if r < 0.85 else 3))
        if r < 0.35 and wanted[0].family.arguments:
            wanted = wanted[:1] * 2
        turns.append(_at_once(words, wanted, joint))
    return Conversation(system_text(words, made), tuple(turns))


def chained(words: Words, count: int, near: float = 0.0) -> Conversation:
    """Makes a request whose second call needs what the first returned.

    In a share `near` of talks tools of the same two sorts for another thing are offered too.
    """
    rng = words.rng
    finder = next(f for f in FAMILIES if f.tail == "_id")
    after = rng.choice([f for f in FAMILIES if f.tail == "_status" or f.verbs.startswith("cancel")])
    noun = rng.choice(toolbox.nouns(words))
    find, then = toolbox.make(words, finder, noun), toolbox.make(words, after, noun)
    others = [
        m
        for m in offer(words, max(1, count - 2))
        if m.noun != noun and m.tool.name not in (find.tool.name, then.tool.name)
    ]
    if words.chance(near):
        other = rng.choice([n for n in toolbox.nouns(words) if n[0] != noun[0]])
        others += [toolbox.make(words, finder, other), toolbox.make(words, after, other)]
    made = _one_name_each([find, then, *others])
    rng.shuffle(made)
    owner, number = words.person(), rng.randint(10, 9999)
    shown = noun[1] if words.zh else noun[0]
    if after.tail == "_status":
        said = (f"{owner}的{shown}状态怎么样？", f"What is the status of {owner}'s {shown}?")
    else:
        said = (f"取消{owner}的{shown}。", f"Cancel {owner}'s {shown}.")
    names = [next(iter(m.tool.schema["properties"])) for m in (find, then)]
    content, answer = result(words, then, SPOKEN if near else 0.0)
    content_1 = rng.choice(
        [str(number), json.dumps({"id": number}), json.dumps({"number": number})]
    )
    turns = (
        (said[0] if words.zh else said[1], ToolCall(find.tool.name, {names[0]: owner}).text),
        (
            f"Tool result ({find.tool.name}):\n{content_1}",
            ToolCall(then.tool.name, {names[1]: number}).text,
        ),
        (f"Tool result ({then.tool.name}):\n{content}", answer),
    )
    return Conversation(system_text(words, made), turns)


def unneeded(words: Words, count: int, length: int) -> Conversation:
    """Offers tools and says something no tool is for: a greeting, or a text with questions."""
    made = offer(words, count)
    if words.chance(0.4):
        return Conversation(system_text(words, made), greeting(words).turns)
    if words.chance(0.3):
        taken = [m.family for m in made if m.family in FIXED]
        stranger = [m for m in offer(words, 6) if _foreign(m.noun, made) and m.family not in taken]
        if any(family in GENERAL for family in taken):
            stranger = [m for m in stranger if m.family.result == "done"]
        if stranger:
            text, _ = toolbox.request(words, stranger[0])
            return Conversation(system_text(words, made), ((text, replies.NO_TOOL[words.lang]),))
    talk = reading(words, max(2, length // 60), 2, 0.1, "{c}\n\n{q}")
    return Conversation(system_text(words, made), talk.turns, talk.document)


def tooltalk(words: Words, length: int) -> Conversation:
    """Makes a talk of one of these kinds, of up to about `length` tokens."""
    most = max(1, min(6, (length - 90) // 40))
    count = 1 if words.chance(0.2) else words.rng.randint(1, most)
    r = words.rng.random()
    if r < 0.5:
        requests = max(1, min(4, (length - 90 - 40 * count) // 60))
        return calling(words, count, requests, spoken=SPOKEN)
    if r < 0.62 and length > 200:
        return several(words, count)
    if r < 0.8 and length > 200:
        return chained(words, count, 0.5)
    return unneeded(words, count, length)


def drill(words: Words, length: int) -> Conversation:
    """Makes a talk of many requests to many tools, alike ones among them, as long as fits."""
    room = length - 100
    count = max(1, min(words.rng.choice([1, 2, 3, 4, 5, 6, 6, 6, 7, 8]), room // 25))
    if count > 1 and words.chance(0.32):
        return many_at_once(words, count, max(1, min(6, (room - 25 * count) // 80)))
    requests = max(1, min(10, (room - 25 * count) // 40))
    return calling(words, count, requests, 0.2, rivals(words, count), SPOKEN, STRANGE)


def call_of(text: str) -> dict[str, Any] | None:
    """Reads back the first call in an answer."""
    head, tail = "<tool_call>", "</tool_call>"
    if not text.startswith(head) or tail not in text:
        return None
    try:
        body = json.loads(text[len(head) : text.index(tail)])
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
