"""Owns synthetic documents: facts as prose, lists or chunks, among filler sentences."""

from __future__ import annotations

from dataclasses import dataclass

from . import filler, prose
from .facts import Fact, capital, fact, facts_about, state
from .lexicon import Words
from .subjects import KINDS, Subject, alike, subject

# What stands before a noun that points back, and kinds whose nouns fit all of the kind.
POINTING = "该这个本新部件"
NAMELESS = ("org", "team")


@dataclass(frozen=True)
class Document:
    """A text and the facts it states."""

    text: str
    facts: tuple[Fact, ...]

    def unique(self, made: Fact) -> bool:
        """Says whether no other fact could answer a question about this one without a name."""
        return sum(made.attribute.clashes(f.attribute.key) for f in self.facts) == 1

    def alone(self, who: Subject) -> bool:
        """Says whether the subject's noun names it and nothing else here."""
        if not who.short:
            return False
        noun = who.short.removeprefix("the ").lstrip(POINTING)
        plain = noun in who.name and who.kind not in NAMELESS
        others = {f.subject.name: f.subject for f in self.facts if f.subject.name != who.name}
        return not any(
            noun in name or noun in other.short or (other.kind == who.kind and not plain)
            for name, other in others.items()
        )


def as_written(value: str, text: str) -> str:
    """Gives a value as the text has it: with a capital where it only starts sentences."""
    if value.startswith(("the ", "a ", "an ")):
        return value
    raised = capital(value)
    return raised if raised != value and value not in text and raised in text else value


def draw_facts(words: Words, count: int) -> list[Fact]:
    """Draws facts about a few subjects, often of one kind, so that they compete."""
    rng = words.rng
    subjects = max(1, min(rng.choice([1, 1, 2, 2, 3, 4]), count))
    if words.chance(0.12):
        subjects = count
    kind = rng.choice(KINDS)
    found: list[Fact] = []
    known: list[Subject] = []
    shared: Fact | None = None
    for _ in range(subjects):
        who = subject(words, kind if words.chance(0.6) else rng.choice(KINDS))
        if any(confusable(who, other) for other in known):
            continue
        known.append(who)
        mine = facts_about(words, who, max(1, count // subjects))
        if shared is not None and who.kind == shared.subject.kind and words.chance(0.7):
            mine = _rival(words, who, shared, mine)
        shared = rng.choice(mine) if mine else shared
        found += mine
    return found or draw_facts(words, count)


def draw_rivals(words: Words, count: int) -> list[Fact]:
    """Draws facts about subjects of one kind, names alike among them, and mostly the same of each.

    What is true of one alone is asked of the others too, so that an answer, or that there is none,
    hangs on who is meant.
    """
    rng, kind = words.rng, words.rng.choice(KINDS)
    wanted = rng.randint(2, max(2, min(7, count // 3)))
    known: list[Subject] = []
    for _ in range(2 * wanted):
        who = alike(words, rng.choice(known)) if known and words.chance(0.4) else None
        who = who or subject(words, kind)
        if len(known) < wanted and not any(confusable(who, other) for other in known):
            known += [] if who.anonymous else [who]
    if len(known) < 2:
        return draw_rivals(words, count)
    shared = facts_about(words, known[0], max(2, round(count / len(known) / 0.7)))
    told = [
        fact(words, who, each.attribute) for who in known for each in shared if words.chance(0.7)
    ]
    return told or draw_rivals(words, count)


def confusable(who: Subject, other: Subject) -> bool:
    """Says whether one's name is within the other's, or is a bare noun of the same sort."""
    if who.kind == other.kind and (who.anonymous or other.anonymous):
        return True
    return who.name in other.name or other.name in who.name


def _rival(words: Words, who: Subject, other: Fact, mine: list[Fact]) -> list[Fact]:
    kept = [f for f in mine if not f.attribute.clashes(other.attribute.key)]
    return [*kept, fact(words, who, other.attribute)]


def sheet(words: Words, facts: list[Fact]) -> str:
    """Writes facts as labelled lines under the names they belong to."""
    mark = words.rng.choice(["- ", "", "* "])
    colon = "：" if words.zh else ": "
    lines, last = [], ""
    for made in facts:
        if made.subject.name != last:
            last = made.subject.name
            lines.append(words.rng.choice(["# ", "", ""]) + capital(last))
        label = made.attribute.key
        if (
            made.attribute.subject == "any"
            and len(made.attribute.slots) == 1
            and (label.isascii() != words.zh)
        ):
            lines.append(mark + capital(label) + colon + made.value("v"))
        else:
            lines.append(mark + capital(state(words, made, last)))
    return "\n".join(lines)


def write(words: Words, count: int, filling: float | None = None, rivals: bool = False) -> Document:
    """Writes a document with about `count` facts in a random style."""
    facts = draw_rivals(words, count) if rivals else draw_facts(words, count)
    level = words.rng.choice([0.0, 0.1, 0.3, 0.6]) if filling is None else filling
    style = words.rng.random()
    lone = len({f.subject.name for f in facts}) == 1 and facts[0].subject.short
    if lone and not facts[0].subject.anonymous and style < 0.3:
        text = f"{capital(facts[0].subject.name)}\n{prose.about_one(words, facts, level)}"
    elif style < 0.09:
        text = sheet(words, facts)
    elif style < 0.3 and len(facts) > 3:
        cut = words.rng.randint(1, len(facts) - 1)
        parts = [prose.prose(words, part, level) for part in (facts[:cut], facts[cut:])]
        text = "\n\n".join(_chunk(words, part) for part in parts)
    else:
        text = prose.prose(words, facts, level)
    return Document(filler.dress(words, text) if words.chance(0.3) else text, tuple(facts))


def _chunk(words: Words, text: str) -> str:
    if not words.chance(0.3):
        return text
    name = words.word() if words.chance(0.5) else words.name().lower()
    return f"file_path: {name.replace(' ', '_')}.{words.rng.choice(['txt', 'md'])}\n\n{text}"
