"""Owns conversations: documents, told facts, lists and greetings as turns with known answers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from . import prompts
from .document import Document, draw_facts, write
from .facts import Fact, ask
from .lexicon import Words
from .values import draw


@dataclass(frozen=True)
class Conversation:
    """A system text (may be empty) and turns of user text and answer."""

    system: str
    turns: tuple[tuple[str, str], ...]
    document: str = ""


def segments(talk: Conversation) -> list[tuple[str, bool]]:
    """Renders a conversation as pieces of text, each marked as answer or not."""
    pieces = [(talk.system + "\n\n", False)] if talk.system else []
    for user, answer in talk.turns:
        pieces += [(f"<|startofpiece|>{user}<|endofpiece|>", False), (f"{answer}</s>", True)]
    return pieces


def prompt_text(talk: Conversation, turn: int) -> str:
    """Renders the conversation up to the end of one user turn."""
    kept = segments(Conversation(talk.system, talk.turns[: turn + 1]))
    return "".join(text for text, _ in kept[:-1])


def question(words: Words, document: Document, fact: Fact) -> str:
    """Asks for a fact of the document, by full name or by what names it just as well."""
    name = fact.subject.name
    if document.alone(fact.subject) and words.chance(0.35):
        name = fact.subject.short
    elif words.chance(0.06) and fact.subject.kind == "person" and not words.zh:
        first = name.split(" ")[0]
        others = [f.subject.name for f in document.facts if f.subject.name != name]
        if not first.endswith(".") and not any(first in other for other in others):
            name = first
    return ask(words, fact, name, bare=document.unique(fact))


def missing(words: Words, document: Document) -> str:
    """Asks for something the document does not say."""
    for stranger in draw_facts(words, 6):
        known = any(f.attribute.key == stranger.attribute.key for f in document.facts)
        if words.chance(0.5) and not known and stranger.attribute.subject != "any":
            hosts = [f for f in document.facts if f.subject.kind == stranger.subject.kind]
            if hosts:
                host = words.rng.choice(hosts).subject
                return ask(words, Fact(host, stranger.attribute, ""), host.name, bare=False)
    other = words.rng.choice(draw_facts(words, 1)).subject
    same = [f for f in document.facts if f.subject.kind == other.kind]
    if same and words.chance(0.6):
        return ask(words, Fact(other, words.rng.choice(same).attribute, ""), other.name, False)
    stranger = words.rng.choice(draw_facts(words, 2))
    return ask(words, stranger, stranger.subject.name, bare=False)


def reading(
    words: Words,
    count: int,
    questions: int,
    unknown: float,
    frame: str = "",
    fill: float | None = None,
) -> Conversation:
    """Makes a document and questions about it; the first turn carries the document."""
    document = write(words, count, fill)
    lang, system = words.lang, ""
    if not frame:
        framework = words.chance(0.4)
        frame = words.rng.choice(prompts.FRAMEWORK if framework else prompts.OWN[lang])
        if frame == prompts.LLAMAINDEX_QA and words.chance(0.5):
            system = prompts.LLAMAINDEX_SYSTEM
        elif words.chance(0.06):
            system = prompts.CHAT_SYSTEM
        elif "{c}\n\n" in frame and words.chance(0.1):
            system, frame = frame.split("{q}")[0].format(c=document.text).strip(), "{q}"
    turns = []
    chosen = list(document.facts)
    words.rng.shuffle(chosen)
    for i in range(questions):
        if words.chance(unknown):
            text, answer = missing(words, document), prompts.UNKNOWN[lang]
        elif chosen:
            fact = chosen.pop()
            text, answer = question(words, document, fact), fact.value
        else:
            break
        turns.append((frame.format(c=document.text, q=text) if i == 0 else text, answer))
    return Conversation(system, tuple(turns), document.text)


def telling(words: Words, count: int) -> Conversation:
    """Lets the user tell facts over some turns and ask for them later."""
    rng, lang = words.rng, words.lang
    told: list[tuple[str, str, str]] = []
    for says, asks, kind in rng.sample(prompts.ME[lang], min(count, 4)):
        value = draw(words, kind)
        say = rng.choice(says.split("|")).format(v=value)
        told.append((say, rng.choice(asks.split("|")), value))
    if words.chance(0.5):
        document = Document("", tuple(draw_facts(words, count)))
        for fact in document.facts[:count]:
            lead = rng.choice(fact.attribute.says).replace("{e}", fact.subject.name)
            text = lead.replace("{v}", fact.value)
            text = text + "。" if words.zh else text[:1].upper() + text[1:] + "."
            told.append((text, question(words, document, fact), fact.value))
    rng.shuffle(told)
    told = told[: max(2, count)]
    turns = [(say, prompts.NOTED[lang]) for say, _, _ in told]
    if words.chance(0.3):
        gap = "" if words.zh else " "
        turns = [(gap.join(say for say, _, _ in told), prompts.NOTED[lang])]
    if words.chance(0.3):
        turns.insert(rng.randint(0, len(turns)), greeting(words).turns[0])
    rng.shuffle(told)
    turns += [(text, value) for _, text, value in told]
    system = prompts.CHAT_SYSTEM if words.chance(0.1) else ""
    return Conversation(system, tuple(turns))


def listing(words: Words, count: int) -> Conversation:
    """Makes a plain list of keys and values and asks for some: the easiest form of look-up."""
    colon = words.rng.choice(["：", "是"] if words.zh else [": ", " is ", " = "])
    kinds = ["code", "number", "person", "phrase", "phrase", "phrase", "org", "city"]
    key, kind = words.rng.choice(kinds), words.rng.choice(kinds)
    pairs = {draw(words, key): draw(words, kind) for _ in range(count)}
    text = "\n".join(k + colon + v for k, v in pairs.items())
    asked = words.rng.sample(sorted(pairs), min(len(pairs), 6))
    mark = words.rng.choice(["{k}？", "{k}是什么？"] if words.zh else ["{k}?", "What is {k}?"])
    turns = [(mark.format(k=k), pairs[k]) for k in asked]
    turns[0] = (f"{text}\n\n{turns[0][0]}", turns[0][1])
    return Conversation("", tuple(turns), text)


def greeting(words: Words) -> Conversation:
    """Makes a greeting, a question about the model itself, or one that no text answers."""
    rng, lang = words.rng, words.lang
    if words.chance(0.3):
        text = rng.choice(prompts.OPEN[lang])
        name = words.person() if words.chance(0.4) else words.phrase()
        return Conversation("", ((text.format(x=name), prompts.UNKNOWN[lang]),))
    says, answer = rng.choice(prompts.GREETINGS[lang])
    text = rng.choice(says.split("|"))
    if not words.zh:
        text = text if words.chance(0.25) else text.capitalize().replace(" i ", " I ")
        text += (
            "?"
            if text.lower().startswith(("who", "what", "how", "which", "are"))
            else rng.choice("!. ")
        )
        text = text.strip()
    elif words.chance(0.5):
        text += "？" if "什么" in text or "谁" in text or "吗" in text else "！"
    system = prompts.CHAT_SYSTEM if words.chance(0.15) else ""
    return Conversation(system, ((text, answer),))


def conversations(seed: int, length: int, early: bool) -> Iterator[Conversation]:
    """Yields conversations of up to about `length` tokens; `early` favours plain look-up."""
    rng = random.Random(seed)
    makers = {lang: Words(rng, lang) for lang in ("en", "zh")}
    while True:
        words = makers["en" if rng.random() < 0.54 else "zh"]
        size = length if length <= 128 else rng.choice([length, length, length // 2])
        facts = max(2, round(size / 28 * rng.uniform(0.6, 1.1)))
        r = rng.random()
        if r < (0.35 if early else 0.06):
            yield listing(words, max(2, size // 22))
        elif r < (0.42 if early else 0.18):
            yield telling(words, rng.randint(2, max(2, min(8, size // 45))))
        elif r < (0.45 if early else 0.22):
            yield greeting(words)
        else:
            yield reading(words, facts, rng.randint(3, 10), 0.06 if early else 0.14)
