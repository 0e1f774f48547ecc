"""Owns synthetic documents: facts as prose, lists or chunks, among filler sentences."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from . import prompts
from .facts import Fact, Subject, capital, facts_about, state, subject
from .lexicon import Words
from .values import draw

KINDS = "person person org place place event item project vehicle weather dish".split()


@dataclass(frozen=True)
class Document:
    """A text and the facts it states."""

    text: str
    facts: tuple[Fact, ...]

    def unique(self, fact: Fact) -> bool:
        """Says whether no other subject has the same attribute."""
        return sum(f.attribute.key == fact.attribute.key for f in self.facts) == 1

    def alone(self, who: Subject) -> bool:
        """Says whether the subject's noun names it and nothing else here."""
        shorts = {f.subject.name: f.subject.short for f in self.facts}
        return bool(who.short) and Counter(shorts.values())[who.short] == 1


def draw_facts(words: Words, count: int) -> list[Fact]:
    """Draws facts about a few subjects, often of one kind, so that they compete."""
    rng = words.rng
    subjects = max(1, min(rng.choice([1, 1, 2, 2, 3, 4]), count))
    if words.chance(0.12):
        subjects = count
    kind = rng.choice(KINDS)
    found: list[Fact] = []
    names: set[str] = set()
    shared: Fact | None = None
    for _ in range(subjects):
        who = subject(words, kind if words.chance(0.6) else rng.choice(KINDS))
        if who.name in names:
            continue
        names.add(who.name)
        mine = facts_about(words, who, max(1, count // subjects))
        if shared is not None and who.kind == shared.subject.kind and words.chance(0.7):
            mine = mine[1:] + _rival(words, who, shared, mine)
        shared = rng.choice(mine) if mine else shared
        found += mine
    return found or draw_facts(words, count)


def _rival(words: Words, who: Subject, other: Fact, mine: list[Fact]) -> list[Fact]:
    if any(f.attribute.key == other.attribute.key for f in mine[1:]):
        return []
    return [Fact(who, other.attribute, draw(words, other.attribute.value))]


def filler(words: Words) -> str:
    """Draws a sentence that states no fact anyone asks for."""
    text = words.rng.choice(prompts.FILLER[words.lang])
    while "{x}" in text:
        text = text.replace("{x}", words.word(), 1)
    return text.replace("{n}", str(words.rng.randint(2, 400)))


def _clauses(words: Words, facts: list[Fact]) -> list[tuple[str, str]]:
    grouped = not words.chance(0.25)
    if not grouped:
        words.rng.shuffle(facts)
    out, last, seen = [], "", 0
    for fact in facts:
        who = fact.subject
        seen = seen + 1 if who.name == last else 0
        name = who.name
        if grouped and seen and words.chance(0.65):
            name = who.short if who.short and words.chance(0.55) else who.pronoun
            if who.kind in ("place", "org") and words.chance(0.15):
                name = "我们" if words.zh else "we"
        out.append((state(words, fact, name), who.name))
        last = who.name
    return out


def prose(words: Words, facts: list[Fact], filling: float) -> str:
    """Writes the facts as running text, some sentences holding two or three of them."""
    rng, lang = words.rng, words.lang
    stop = "。" if words.zh else "."
    sentences: list[str] = []
    clauses = _clauses(words, facts)
    while clauses:
        text, _ = clauses.pop(0)
        if words.chance(0.12):
            text = rng.choice(prompts.LEADS[lang]) + text
        while clauses and words.chance(0.3):
            text += rng.choice(prompts.JOINS[lang]) + clauses.pop(0)[0]
        sentences.append(capital(text) + stop)
        if words.chance(filling):
            sentences.insert(rng.randint(0, len(sentences)), filler(words))
    gap = "" if words.zh else " "
    text = ""
    for sentence in sentences:
        text += ("" if not text else "\n" if words.chance(0.08) else gap) + sentence
    return text


def sheet(words: Words, facts: list[Fact]) -> str:
    """Writes facts as labelled lines under the names they belong to."""
    mark = words.rng.choice(["- ", "", "* "])
    colon = "：" if words.zh else ": "
    lines, last = [], ""
    for fact in facts:
        if fact.subject.name != last:
            last = fact.subject.name
            lines.append(words.rng.choice(["# ", "", ""]) + capital(last))
        label = fact.attribute.key
        if fact.attribute.asks and label.isascii() and words.zh:
            lines.append(mark + state(words, fact, last))
        elif "_" in label or fact.attribute.subject != "any":
            lines.append(mark + capital(state(words, fact, last)))
        else:
            lines.append(mark + capital(label) + colon + fact.value)
    return "\n".join(lines)


def write(words: Words, count: int, filling: float | None = None) -> Document:
    """Writes a document with about `count` facts in a random style."""
    facts = draw_facts(words, count)
    level = words.rng.choice([0.0, 0.1, 0.3, 0.6]) if filling is None else filling
    style = words.rng.random()
    if style < 0.12:
        text = sheet(words, facts)
    elif style < 0.35 and len(facts) > 3:
        cut = words.rng.randint(1, len(facts) - 1)
        parts = [prose(words, part, level) for part in (facts[:cut], facts[cut:])]
        text = "\n\n".join(_chunk(words, part) for part in parts)
    else:
        text = prose(words, facts, level)
    if words.chance(0.15):
        text = words.rng.choice(prompts.OPENING[words.lang]) + "\n" + text
    elif words.chance(0.2):
        text = _chunk(words, text)
    return Document(text, tuple(facts))


def _chunk(words: Words, text: str) -> str:
    if not words.chance(0.4):
        return text
    name = words.word() if words.chance(0.5) else words.name().lower()
    return f"file_path: {name.replace(' ', '_')}.{words.rng.choice(['txt', 'md'])}\n\n{text}"
