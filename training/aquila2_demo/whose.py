"""Owns questions for a subject: who or what something is told of."""

from __future__ import annotations

from .document import POINTING, Document
from .facts import Fact, fact
from .lexicon import Words
from .prose import predicate
from .values import akin

CLASSES = {
    "en": {"person": "Who", "weather": "Which city", "org": "Which firm", "team": "Which team"},
    "zh": {"person": "谁", "weather": "哪座城市", "org": "哪家公司", "team": "哪支球队"},
}
FIRMS = {
    "en": ["Which firm", "Which company", "Which organisation", "Who"],
    "zh": ["哪家公司", "哪家单位", "哪个机构", "哪家企业"],
}
# What a statement without its subject cannot be in a question: a label, or what clings to a name.
LABEL, CLINGING = "：", ("，", "一带")
TRIES = 6


def _class_of(words: Words, made: Fact) -> str:
    who = made.subject
    if who.kind == "org":
        return words.rng.choice(FIRMS[words.lang])
    if who.kind in CLASSES[words.lang]:
        return CLASSES[words.lang][who.kind]
    if words.zh:
        return words.rng.choice(["哪个", "哪个", "什么"]) + who.short.lstrip(POINTING)
    return words.rng.choice(["Which", "Which", "What"]) + " " + who.short.removeprefix("the ")


def whose(words: Words, made: Fact) -> str:
    """Asks for the subject of a fact by what is told of it; empty where no wording allows it."""
    said = predicate(words, made)
    if not said or (words.zh and (LABEL in said or said.startswith(CLINGING))):
        return ""
    asked = _class_of(words, made)
    if not words.zh:
        return f"{asked} {said}" + ("?" if words.chance(0.96) else "")
    if said[-1] not in "了的呢" and words.chance(0.4):
        return f"{said}的是{asked}？"
    return f"{asked}{said}？"


def _alone(made: Fact, document: Document) -> bool:
    """Says whether nothing told of another subject has one of the values."""
    return not any(_may_be_told(made, o) for o in document.facts if o.subject != made.subject)


def _may_be_told(made: Fact, other: Fact) -> bool:
    """Says whether the other may answer a question about this one and a value fits both."""
    return made.attribute.clashes(other.attribute.key) and any(
        akin(one, two) for _, one in made.values for _, two in other.values
    )


def asked_for(words: Words, document: Document) -> list[tuple[str, str]]:
    """Asks for the subject of all that is told of named ones, in random order, with the answers."""
    found, low = list[tuple[str, str]](), document.text.lower()
    for made in document.facts:
        who = made.subject
        if who.anonymous or who.name.lower() not in low or not _alone(made, document):
            continue
        if text := whose(words, made):
            found.append((text, who.name))
    words.rng.shuffle(found)
    return found


def nobody(words: Words, document: Document) -> str:
    """Asks for a subject of which something is told, with another value: there is none."""
    for _ in range(TRIES):
        made = words.rng.choice(document.facts)
        other = fact(words, made.subject, made.attribute)
        told = {v for f in document.facts for _, v in f.values}
        if made.subject.anonymous or told & {value for _, value in other.values}:
            continue
        if any(_may_be_told(other, f) for f in document.facts):
            continue
        if text := whose(words, other):
            return text
    return ""
