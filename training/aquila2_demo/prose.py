"""Owns running text: how facts become sentences, joined, nested, shortened or set side by side."""

from __future__ import annotations

import re

from . import filler
from .facts import Fact, capital, fill, put, state, tidy, wording
from .lexicon import Words
from .talk import series

JOINS = {
    "en": [", and ", "; ", ", while ", " and ", ", but ", "; also, ", ", whereas "],
    "zh": ["，", "，", "；", "，而", "，并且", "，同时", "，另外"],
}
# Kinds of values that are running words, and what stays of a verb that is said once.
WORDY = "phrase thing things title task cause defect field hobby group material word".split()
# Kinds of values that are names: two in a row would read as one.
NAMES = "person person2 org city stop team2 firstname".split()
KEPT_ZH = "来自 位于 是 为 在 于 有 到 由".split()
KEPT = "a as at by for from in of on to with".split()
# What points back to whoever was named last.
LEANS = re.compile(r"\b(he|she|it|his|her|him|its)\b|[他她它]", re.IGNORECASE)
NOT_PREDICATE = ("and ", "of ", "or ")


def predicate(words: Words, made: Fact) -> str:
    """States a fact without its subject ("was born in Paris"); empty where that cannot be."""
    for _ in range(3):
        text = tidy(wording(words, made.attribute.says))
        if words.zh and text.startswith("{e}") and text[3:4] not in "和与：把里中上内":
            rest = text[4:] if text[3:4] == "的" else text[3:]
            if "{e}" not in rest and not rest.startswith("{"):
                return put(rest, made)
        if not words.zh and text.startswith("{e} ") and "{e}" not in text[4:]:
            rest = text[4:]
            if not rest.startswith(NOT_PREDICATE):
                return put(rest, made)
    return ""


def _naming(words: Words, made: Fact, named: bool) -> str:
    """Chooses how to name the subject: in full, or by what is known from before."""
    who = made.subject
    if named and words.chance(0.65):
        return who.short if who.short and words.chance(0.55) else who.pronoun
    return who.name


def _nested(words: Words, first: Fact, second: Fact, name: str) -> str:
    """Puts one fact inside the sentence of another; empty where the wordings do not allow it."""
    inner, outer = predicate(words, first), predicate(words, second)
    if not inner or not outer or name in ("he", "she", "it", "他", "她", "它"):
        return ""
    if words.zh:
        return f"{inner}的{name}{outer}" if inner[-1] not in "了的" else ""
    relative = "who" if first.subject.kind == "person" else "which"
    if inner.startswith("was ") and words.chance(0.6):
        return f"{inner[4:]}, {name} {outer}"
    return f"{name}, {relative} {inner}, {outer}"


def _chain(words: Words, facts: list[Fact], name: str) -> str:
    """Says several things of one subject in a row; empty where the wordings do not allow it."""
    parts = [predicate(words, made) for made in facts]
    if not all(parts):
        return ""
    if words.zh:
        return name + "，".join(parts)
    if len(parts) == 2:
        return f"{name} {parts[0]}{words.rng.choice([' and ', ', and ', ' and also '])}{parts[1]}"
    return f"{name} {', '.join(parts[:-1])} and {parts[-1]}"


def _side_by_side(words: Words, facts: list[Fact]) -> str:
    """States the same of several subjects, the verb only once; empty where that cannot be."""
    for _ in range(4):
        text = tidy(wording(words, facts[0].attribute.says))
        if text.startswith("{e}") and text.endswith("{v}") and text.count("{") == 2:
            break
    else:
        return ""
    verb = text[3:-3]
    names, values = [f.subject.name for f in facts], [f.value("v") for f in facts]
    if words.zh:
        # "A和B分别有C和D和E": nobody can say where the first list ends.
        plain = not any(mark in text for text in names + values for mark in "和、")
        fits = verb and verb[0] != "的" and verb[-1] not in "是为："
        if plain and fits and words.chance(0.4):
            return f"{series(names, 'zh')}分别{verb}{series(values, 'zh')}"
        # No blank parts a name from a value, so only a number may follow one directly.
        ends = next((end for end in KEPT_ZH if verb.endswith(end)), verb)
        gap = verb if verb.startswith("的") or words.chance(0.3) else ends
        rest = [
            f"{n}{'' if v[0].isdigit() else gap}{v}"
            for n, v in zip(names[1:], values[1:], strict=True)
        ]
        return "，".join([f"{names[0]}{verb}{values[0]}", *rest])
    # Without its verb a value of several words would run into the name before it.
    kind = facts[0].attribute.slots[0][1]
    name = kind in NAMES
    if kind not in WORDY and any(" and " in value for value in values):
        return ""
    whole = verb.rstrip() if kind in WORDY or words.chance(0.3) else ""
    last = verb.split()[-1] if verb.strip() else ""
    link = whole or (f" {last}" if last in KEPT and (name or words.chance(0.7)) else "")
    link = link or (verb.rstrip() if name else "")
    said = [n + fill(f"{link} {{v}}", "v", v) for n, v in zip(names, values, strict=True)]
    said[0] = names[0] + fill(verb + "{v}", "v", values[0])
    return f"{', '.join(said[:-1])} and {said[-1]}"


def _pairs(words: Words, facts: list[Fact]) -> list[list[Fact]]:
    """Splits facts into sentences; some share a relation, some a subject."""
    left, found = list(facts), list[list[Fact]]()
    while left:
        first = left.pop(0)
        same = [
            f
            for f in left
            if f.attribute.key == first.attribute.key and f.subject.name != first.subject.name
        ]
        group = [first]
        if same and len(first.values) == 1 and words.chance(0.35):
            group += same[:2]
        elif words.chance(0.45):
            for _ in range(words.rng.choice([1, 1, 2])):
                if left and left[0].subject.name == first.subject.name:
                    group.append(left.pop(0))
        left = [f for f in left if f not in group]
        found.append(group)
    return found


def _sentence(words: Words, group: list[Fact], name: str, bare: bool) -> list[str]:
    """Says a group of facts in one sentence if it can be, else in one for each."""
    if len(group) > 1:
        text = ""
        if group[0].subject.name != group[1].subject.name:
            text = _side_by_side(words, group)
        elif len(group) == 2 and words.chance(0.35):
            text = _nested(words, group[0], group[1], name)
        text = text or (
            _chain(words, group, name) if group[0].subject.name == group[1].subject.name else ""
        )
        if text:
            return [text]
    first = state(words, group[0], name, bare and words.chance(0.5))
    return [first, *(state(words, f, f.subject.name) for f in group[1:])]


def prose(words: Words, facts: list[Fact], filling: float) -> str:
    """Writes the facts as running text, some sentences holding two or three of them."""
    grouped = not words.chance(0.2)
    order = list(facts)
    if not grouped:
        words.rng.shuffle(order)
    one = len({f.subject.name for f in facts}) == 1
    clauses, last = list[str](), ""
    for group in _pairs(words, order):
        who = group[0].subject
        named = grouped and who.name == last
        name = _naming(words, group[0], named)
        said = _sentence(words, group, name, named or (one and bool(clauses)))
        clauses += said
        # Where a sentence speaks of two alike, a pronoun behind it could mean either.
        spread = len(said) == 1 and group[-1].subject.name != who.name
        another = spread or any(f.names_another for f in group)
        last = "" if another else group[-1].subject.name
    return _text(words, clauses, filling)


def about_one(words: Words, facts: list[Fact], filling: float) -> str:
    """Writes facts about one subject that a heading has named already."""
    clauses = list[str]()
    for group in _pairs(words, facts):
        who = group[0].subject
        name = who.short if words.chance(0.75) else who.pronoun
        clauses += _sentence(words, [group[0]], name, True)
        clauses += [state(words, f, who.short, words.chance(0.5)) for f in group[1:]]
    return _text(words, clauses, filling)


def _text(words: Words, clauses: list[str], filling: float) -> str:
    """Joins clauses to sentences and sentences to a text."""
    rng, lang = words.rng, words.lang
    stop = "。" if words.zh else "."
    sentences, spare = list[str](), 0
    left = list(clauses)
    while left:
        text = left.pop(0)
        if words.chance(0.12):
            text = rng.choice(filler.LEADS[lang]) + text
        while left and words.chance(0.2):
            text += rng.choice(JOINS[lang]) + left.pop(0)
        mark = stop if not words.chance(0.03) else "！" if words.zh else "!"
        if not words.zh and text.endswith(("a.m", "p.m", ".")):
            mark = "" if text.endswith(".") else "."
        sentences.append(capital(text) + mark)
        spare += int(filling) + words.chance(filling % 1)
    # Any order of the two is as likely as another, so that facts are as dense in all parts.
    telling = [True] * len(sentences) + [False] * spare
    rng.shuffle(telling)
    gap, text = "" if words.zh else " ", ""
    breaks = rng.choice([0.0, 0.08, 0.08, 0.5])
    for tells in telling:
        # What stands before a pronoun must name nobody else whom it could mean.
        leans = not tells and bool(sentences) and bool(LEANS.search(sentences[0]))
        sentence = sentences.pop(0) if tells else filler.sentence(words, nameless=leans)
        text += ("" if not text else "\n" if words.chance(breaks) else gap) + sentence
    return text
