"""Owns facts: one subject's values of a relation, and how they are stated and asked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations

from .lexicon import Words
from .relations import Attribute, attributes, generic, is_held
from .subjects import Subject
from .values import akin, draw

CHOICE = re.compile(r"\(([^()]*)\)")
AS_OBJECT = re.compile(
    r"\b(of|by|for|to|at|with|from|in|reach|taught|hired|employs|call|ring|phone|married) \{e\}"
)
# Of questions that need no name, those whose wording loses it ("Who is the director?").
SHORN = 0.15
AT_THE_END = re.compile(r" (of|at|for|in|on) \{e\}$")
VOWELS = tuple("aeioAEIO")
# Kinds of subjects, and the kinds of values that name another of them.
OTHERS = {
    "person": {"person", "person2", "firstname", "task"},
    "org": {"org", "task"},
    "team": {"team2"},
    "weather": {"city", "stop"},
}
ANY_KINDS = ("person", "org", "place", "event", "project")


@dataclass(frozen=True)
class Fact:
    """One subject's values of one relation."""

    subject: Subject
    attribute: Attribute
    values: tuple[tuple[str, str], ...]

    def value(self, slot: str) -> str:
        """Gives the value in a slot."""
        return dict(self.values)[slot]

    @property
    def names_another(self) -> bool:
        """Says whether a value names another of the subject's kind, whom a pronoun could mean."""
        return any(kind in OTHERS.get(self.subject.kind, ()) for _, kind in self.attribute.slots)


def spell(words: Words, template: str) -> str:
    """Settles every choice of a wording."""
    while match := CHOICE.search(template):
        chosen = words.rng.choice(match[1].split("|"))
        template = template[: match.start()] + chosen + template[match.end() :]
    return template


def fact(words: Words, who: Subject, attribute: Attribute) -> Fact:
    """Draws the values of a relation, no two alike."""
    while True:
        values = tuple((slot, draw(words, kind)) for slot, kind in attribute.slots)
        shown = [value for _, value in values]
        pairs = combinations(shown, 2)
        if who.name not in shown and not any(akin(one, other) for one, other in pairs):
            return Fact(who, attribute, values)


def facts_about(words: Words, who: Subject, count: int) -> list[Fact]:
    """Draws up to `count` different facts about one subject, none answering another's question."""
    wide = who.kind in ANY_KINDS
    own = [a for a in attributes(words.lang) if a.subject == who.kind]
    if wide:
        own += [a for a in attributes(words.lang) if a.subject == "any"]
    if words.odd:
        own = [a for a in own if any(map(is_held, a.says))]
    words.rng.shuffle(own)
    made: list[Fact] = []
    for _ in range(count):
        attribute = own.pop() if own and (words.odd or not words.chance(0.1)) else generic(words)
        if not any(attribute.clashes(f.attribute.key) for f in made):
            made.append(fact(words, who, attribute))
    return made


def capital(text: str) -> str:
    """Raises the first letter."""
    return text[:1].upper() + text[1:]


def refer(template: str, name: str, lang: str) -> str:
    """Puts a name into a wording, pronouns in their right case."""
    if lang == "en" and name in ("he", "she", "it"):
        owned = {"he": "his", "she": "her", "it": "its"}[name]
        other = {"he": "him", "she": "her", "it": "it"}[name]
        template = template.replace("{e}'s", owned)
        template = AS_OBJECT.sub(rf"\1 {other}", template)
    return template.replace("{e}", name)


def wording(words: Words, found: tuple[str, ...]) -> str:
    """Chooses a wording of the side of the split the words are on, its choices settled."""
    usable = [t for t in found if is_held(t) == words.odd]
    if not usable:
        usable = [t for t in found if words.odd or not is_held(t)] or list(found)
    return spell(words, words.rng.choice(usable))


def put(template: str, made: Fact) -> str:
    """Puts the values of a fact into a wording."""
    for slot, value in made.values:
        template = fill(template, slot, value)
    return template


def fill(template: str, slot: str, value: str) -> str:
    """Puts a value into its blank, an English article before it in its right form."""
    blank = "{" + slot + "}"
    if value[:1] in VOWELS:
        template = (" " + template).replace(" a " + blank, " an " + blank)[1:]
    return template.replace(blank, value)


def state(words: Words, made: Fact, name: str, bare: bool = False) -> str:
    """States a fact without the final stop."""
    plain = made.attribute.bare if bare and made.attribute.bare else made.attribute.says
    return put(refer(tidy(wording(words, plain)), name, words.lang), made)


def tidy(text: str) -> str:
    """Takes out the blanks that an empty choice leaves."""
    return " ".join(text.split())


def shorn(question: str, lang: str) -> str:
    """Takes the subject out of the wording of a question; empty where that cannot be."""
    if lang == "zh":
        rest = question.removeprefix("{e}的") if question.startswith("{e}的") else question[3:]
        return rest if question.startswith("{e}") and "{e}" not in rest else ""
    rest = AT_THE_END.sub("", question).replace("{e}'s ", "the ")
    return "" if "{e}" in rest else rest


def ask(words: Words, made: Fact, slot: str, name: str, bare: bool) -> str:
    """Asks for a slot of a fact; wordings that name no subject are used only when `bare`."""
    templates = dict(made.attribute.asks)[slot]
    if not words.odd:
        templates = tuple(t for t in templates if not is_held(t)) or templates
    for _ in range(20):
        text = spell(words, words.rng.choice(templates))
        if bare or "{e}" in text:
            break
    else:
        named = [t for t in templates if "{e}" in t] or list(templates)
        text = spell(words, words.rng.choice(named))
    text = tidy(text)
    if bare and words.chance(SHORN):
        text = shorn(text, words.lang) or text
    text = put(text.replace("{e}", name), made)
    if words.zh:
        return text + ("？" if words.chance(0.92) else "")
    if words.chance(0.96):
        text = capital(text)
    mark = "." if text.lower().startswith(("tell", "name")) else "?"
    return text + (mark if mark == "." or words.chance(0.96) else "")
