"""Owns made-up tools: draws one of a family, and requests with the arguments they ask for."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from aquila2_runtime.tools import Tool

from .facts import capital, spell, tidy
from .lexicon import Words
from .tool_families import ON, PAIRS, SIZES, Argument, Family
from .values import draw
from .vocabulary import NOUNS_EN, NOUNS_ZH

# Of the tools in training, those described in the language that requests are not in.
FOREIGN = 0.18


@dataclass(frozen=True)
class Made:
    """A tool of some family, ready to be asked for."""

    family: Family
    noun: tuple[str, ...]
    tool: Tool


def with_noun(text: str, noun: tuple[str, ...], zh: bool) -> str:
    """Puts a noun into a text, with the article that it takes."""
    if not zh and noun[0][:1] in tuple("aeio"):
        text = re.sub(r"\b([Aa]) \{n\}", r"\1n {n}", text)
    return text.replace("{n}", noun[1] if zh else noun[0])


def _schema(words: Words, argument: Argument, noun: str) -> tuple[str, dict[str, Any]]:
    name = words.rng.choice(argument.names.split("|")).replace("{n}", noun)
    if argument.kind == "enum":
        return name, {"type": "string", "enum": SIZES[words.lang]}
    return name, {"type": argument.kind}


def make(words: Words, family: Family, noun: tuple[str, ...]) -> Made:
    """Makes a tool of a family about a noun; names are English, descriptions may be Chinese."""
    verb = words.rng.choice(family.verbs.split("|"))
    tail = words.rng.choice(family.tail.split("|"))
    mark = "_" if words.chance(0.85) else "-"
    named = f"{verb}_{tail[1:]}" if tail[:1] == "=" else f"{verb}_{noun[0]}{tail}"
    name = named.replace("_", mark)
    if words.chance(0.12):
        first, *rest = name.split(mark)
        name = first + "".join(part.capitalize() for part in rest)
    about = ""
    # A Chinese request has nothing to go by but the description where the noun is a new one.
    if words.chance(0.9) or noun not in PAIRS or (words.zh and _is_held(noun[0])):
        lang = _described_in(words, family, noun)
        about = with_noun(spell(words, family.about[lang]), noun, lang == "zh")
    members = dict(_schema(words, argument, noun[0]) for argument in family.arguments)
    if not members:
        return Made(family, noun, Tool(name, about, None))
    schema = {"type": "object", "properties": members, "required": _required(words, members)}
    return Made(family, noun, Tool(name, about, schema))


def _described_in(words: Words, family: Family, noun: tuple[str, ...]) -> str:
    """Chooses the language of a description.

    An invented noun is no translation: requests name it in their language alone.
    """
    translated = noun in PAIRS or "{n}" not in "".join(family.about.values())
    if words.held or not translated or not words.chance(FOREIGN):
        return words.lang
    return "en" if words.zh else "zh"


def _required(words: Words, members: dict[str, Any]) -> list[str]:
    """Marks most arguments as required; requests give them all the same."""
    return [name for name in members if not words.chance(0.12)]


@cache
def _is_held(noun: str) -> bool:
    return zlib.crc32(noun.encode()) % 6 == 0


def nouns(words: Words) -> list[tuple[str, ...]]:
    """Lists the nouns of the side of the split the words are on; in training, invented ones too.

    An invented pair is no translation: what a tool is about then stands in its description alone,
    so that requests are understood from what is offered, not from a list of nouns learnt by heart.
    """
    known = [p for p in PAIRS if _is_held(p[0]) == words.held]
    return known if words.held else known + [_invented(words) for _ in range(len(known))]


def _invented(words: Words) -> tuple[str, str]:
    """Pairs any word for the names of tools with any Chinese one, none of them kept out."""
    pick, kept_out = words.rng.choice, _kept_out()
    while True:
        name = pick(NOUNS_EN) if words.chance(0.5) else _coined(words)
        shown = pick(NOUNS_ZH) if words.chance(0.6) else words.han(2)
        if name.isalpha() and name.isascii() and not _is_held(name) and shown not in kept_out:
            return name, shown


def _coined(words: Words) -> str:
    """Makes a word of pieces: of syllables, or of the ends of two words, as "account" has "count".

    A noun never seen is spelt with tokens that have often stood for something else.
    """
    if words.chance(0.5):
        return words.name().lower()
    first, second = words.rng.choice(NOUNS_EN), words.rng.choice(NOUNS_EN)
    return first[: words.rng.randint(2, 4)] + second[-words.rng.randint(3, 5) :]


@cache
def _kept_out() -> frozenset[str]:
    return frozenset(p[1] for p in PAIRS if _is_held(p[0]))


def _value(words: Words, kind: str) -> tuple[str, Any]:
    """Draws an argument as the request says it and as the call gives it."""
    r = words.rng
    simple: dict[str, Callable[[], Any]] = {
        "small": lambda: r.randint(2, 60),
        "few": lambda: r.randint(2, 12),
        "large": lambda: r.randint(10, 9999),
        "stars": lambda: r.randint(1, 5),
        "decimal": lambda: r.choice([r.randint(1, 99), r.randint(1, 99) + r.randint(1, 9) / 10]),
        "size": lambda: r.choice(SIZES[words.lang]),
    }
    if kind == "switch":
        said = r.choice(sorted(ON[words.lang]))
        return said, ON[words.lang][said]
    value = simple[kind]() if kind in simple else draw(words, kind)
    return str(value), value


def request(words: Words, made: Made) -> tuple[str, dict[str, Any]]:
    """Makes a request that needs the tool, and the arguments of the call it asks for."""
    family, arguments = made.family, dict[str, Any]()
    text = tidy(spell(words, words.rng.choice(_variants(family.asks[words.lang]))))
    # Before the values are put in: one that opens the request is called with as it is written.
    text = capital(with_noun(text, made.noun, words.zh))
    names = list(made.tool.schema.get("properties", {}))
    for i, (name, argument) in enumerate(zip(names, family.arguments, strict=True)):
        said, arguments[name] = _value(words, argument.value)
        text = text.replace("{" + str(i) + "}", said)
    return text, arguments


def by_name(words: Words, made: Made) -> tuple[str, dict[str, Any]]:
    """Makes a request that names the tool and its arguments outright."""
    names = list(made.tool.schema.get("properties", {}))
    arguments = {
        name: _value(words, argument.value)[1]
        for name, argument in zip(names, made.family.arguments, strict=True)
    }
    given = ", ".join(str(value) for value in arguments.values())
    spelt = ", ".join(f"{name}={value}" for name, value in arguments.items())
    call = f"{made.tool.name}({words.rng.choice([given, spelt])})"
    frames = {
        "en": [
            "What is the value of {c}?",
            "What does {c} return?",
            "Call {c}.",
            "Run {c} for me.",
        ],
        "zh": ["{c}的结果是什么？", "调用{c}。", "请运行{c}。"],
    }
    return words.rng.choice(frames[words.lang]).replace("{c}", call), arguments


def _variants(text: str) -> list[str]:
    """Splits at the bars outside brackets."""
    found, depth, start = [], 0, 0
    for at, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if sign == "|" and depth == 0:
            found.append(text[start:at])
            start = at + 1
    return [*found, text[start:]]
