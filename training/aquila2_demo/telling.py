"""Owns telling talks: the user says things over some turns and asks for them later."""

from __future__ import annotations

from . import prompts, replies
from .document import Document, draw_facts
from .facts import capital, state
from .lexicon import Words
from .reading import question
from .smalltalk import greeting
from .talk import Conversation
from .values import draw


def telling(words: Words, count: int) -> Conversation:
    """Lets the user tell facts over some turns and ask for them later."""
    rng, lang = words.rng, words.lang
    told: list[tuple[str, str, str]] = []
    for says, asks, kind in rng.sample(replies.ME[lang], min(count, 4)):
        value = draw(words, kind)
        say = rng.choice(says.split("|")).format(v=value)
        told.append((say, rng.choice(asks.split("|")), value))
    if words.chance(0.5):
        document = Document("", tuple(draw_facts(words, count)))
        for made in document.facts[:count]:
            text = state(words, made, made.subject.name)
            slot = rng.choice(made.attribute.asks)[0]
            asked = question(words, document, made, slot)
            told.append((capital(text) + ("。" if words.zh else "."), asked, made.value(slot)))
    rng.shuffle(told)
    told = told[: max(2, count)]
    turns = [(say, replies.NOTED[lang]) for say, _, _ in told]
    if words.chance(0.3):
        gap = "" if words.zh else " "
        turns = [(gap.join(say for say, _, _ in told), replies.NOTED[lang])]
    if words.chance(0.3):
        turns.insert(rng.randint(0, len(turns)), greeting(words).turns[0])
    rng.shuffle(told)
    asked_of = {text for _, text, _ in told}
    turns += [(text, value) for _, text, value in told]
    if words.chance(0.2):
        others, kept = rng.choice(replies.ME[lang])[1].split("|"), {s for s, _, _ in told}
        if not any(a in asked_of for a in others) and _unsaid(lang, others, kept):
            turns.append((rng.choice(others), replies.UNKNOWN[lang]))
    system = prompts.CHAT_SYSTEM if words.chance(0.1) else ""
    return Conversation(system, tuple(turns))


def _unsaid(lang: str, asks: list[str], told: set[str]) -> bool:
    """Says whether nothing told begins like an answer to these questions."""
    says = next(s for s, a, _ in replies.ME[lang] if a.split("|") == asks)
    heads = [s.split("{v}")[0] for s in says.split("|")]
    return not any(t.startswith(head) for t in told for head in heads)


def listing(words: Words, count: int) -> Conversation:
    """Makes a plain list of keys and values and asks for some: the easiest form of look-up."""
    colon = words.rng.choice(["：", "是"] if words.zh else [": ", " is ", " = "])
    kinds = ["code", "number", "person", "phrase", "phrase", "phrase", "org", "city", "thing"]
    key, kind = words.rng.choice(kinds), words.rng.choice(kinds)
    pairs = {draw(words, key): draw(words, kind) for _ in range(count)}
    text = "\n".join(k + colon + v for k, v in pairs.items())
    asked = words.rng.sample(sorted(pairs), min(len(pairs), 6))
    mark = words.rng.choice(["{k}？", "{k}是什么？"] if words.zh else ["{k}?", "What is {k}?"])
    turns = [(mark.format(k=k), pairs[k]) for k in asked]
    turns[0] = (f"{text}\n\n{turns[0][0]}", turns[0][1])
    return Conversation("", tuple(turns), text)
