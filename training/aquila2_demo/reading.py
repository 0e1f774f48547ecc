"""Owns reading talks: a document under some prompt, questions it answers and some it does not."""

from __future__ import annotations

from dataclasses import replace

from . import filler, prompts, replies
from .document import Document, as_written, draw_facts, write
from .facts import Fact, ask, capital, fact, state
from .lexicon import Words
from .relations import attributes
from .subjects import alike, subject
from .talk import Conversation
from .whose import asked_for, nobody

NOBODY = "\u2063"


def question(words: Words, document: Document, made: Fact, slot: str) -> str:
    """Asks for a slot of a fact, by full name or by what names its subject just as well."""
    name = made.subject.name
    if document.alone(made.subject) and words.chance(0.35):
        name = made.subject.short
    elif words.chance(0.06) and made.subject.kind == "person" and not words.zh:
        first = name.split(" ")[0]
        others = [f.subject.name for f in document.facts if f.subject.name != name]
        if not first.endswith(".") and not any(first in other for other in others):
            name = first
    return ask(words, made, slot, name, bare=document.unique(made))


def questions(words: Words, document: Document) -> list[tuple[str, str]]:
    """Asks for everything the document says, in random order, with the answers."""
    asked = [(f, slot) for f in document.facts for slot, _ in f.attribute.asks]
    words.rng.shuffle(asked)
    return [
        (question(words, document, f, slot), as_written(f.value(slot), document.text))
        for f, slot in asked
    ]


def _untold(words: Words, document: Document) -> str:
    """Asks of one subject what is told of another of its kind alone; empty where all is told."""
    found = []
    for host in {f.subject.name: f.subject for f in document.facts}.values():
        told = [f.attribute for f in document.facts if f.subject.name == host.name]
        found += [
            replace(f, subject=host)
            for f in document.facts
            if f.subject.kind == host.kind and not any(f.attribute.clashes(t.key) for t in told)
        ]
    if not found:
        return ""
    unsaid = words.rng.choice(found)
    slot = words.rng.choice(unsaid.attribute.asks)[0]
    return ask(words, unsaid, slot, unsaid.subject.name, bare=False)


def missing(words: Words, document: Document, near: float = 0.0) -> str:
    """Asks for something the document does not say; a share `near` is told of someone else."""
    if words.chance(near) and (text := _untold(words, document)):
        return text
    host = words.rng.choice(document.facts)
    told = [f.attribute for f in document.facts if f.subject.name == host.subject.name]
    if words.chance(0.55):
        own = [a for a in attributes(words.lang) if a.subject == host.subject.kind]
        words.rng.shuffle(own)
        for attribute in own:
            if not any(attribute.clashes(t.key) for t in told):
                unsaid = fact(words, host.subject, attribute)
                slot = words.rng.choice(attribute.asks)[0]
                everywhere = any(attribute.clashes(f.attribute.key) for f in document.facts)
                # As often as `question` does: a short name is no sign that there is an answer.
                short = document.alone(host.subject) and words.chance(0.35)
                name = host.subject.short if short else host.subject.name
                return ask(words, unsaid, slot, name, bare=not everywhere)
    for _ in range(10):
        strange = words.zh and not near
        other = subject(words, host.subject.kind) if strange else alike(words, host.subject)
        names = [f.subject.name for f in document.facts] + [host.subject.short]
        if other.anonymous or any(other.name in n or n in other.name for n in names if n):
            continue
        stranger = replace(host, subject=other)
        text = ask(words, stranger, words.rng.choice(host.attribute.asks)[0], other.name, False)
        if other.name in text or capital(other.name) in text:
            return text
    for stranger in draw_facts(words, 4):
        if not any(stranger.attribute.clashes(f.attribute.key) for f in document.facts):
            slot = stranger.attribute.asks[0][0]
            return ask(words, stranger, slot, stranger.subject.name, bare=False)
    return missing(words, document)


def _framed(words: Words, text: str, frame: str) -> tuple[str, str]:
    """Chooses where the document goes: gives the system text and the first turn's frame."""
    if frame:
        return "", frame
    if words.chance(0.1):
        return words.rng.choice(prompts.SYSTEM_FRAMES[words.lang]).replace("{c}", text), "{q}"
    framework = words.chance(0.22)
    frame = words.rng.choice(prompts.FRAMEWORK if framework else prompts.OWN[words.lang])
    if "Given the" in frame and words.chance(0.25):
        return prompts.LLAMAINDEX_SYSTEM, frame
    return (prompts.CHAT_SYSTEM if words.chance(0.05) else ""), frame


def reading(
    words: Words,
    count: int,
    many: int,
    unknown: float,
    frame: str = "",
    rivals: bool = False,
    filling: float | None = None,
    first: float = 1.0,
    turned: float = 0.0,
) -> Conversation:
    """Makes a document and questions about it; the first turn or the system text carries it.

    Args:
        words: Draws the words.
        count: How many facts.
        many: How many questions.
        unknown: The share of them that the document does not answer.
        frame: The prompt around document and question; drawn unless given.
        rivals: Whether subjects are of one kind and told alike.
        filling: How many sentences say nothing for each that does; drawn unless given.
        first: From which share of the document, from its beginning, answers are asked for first.
        turned: The share of questions that ask for the subject: who or what something is told of.
    """
    document = write(words, count, filling, rivals)
    system, frame = _framed(words, document.text, frame)
    turns: list[tuple[str, str]] = []
    chosen, told = questions(words, document), asked_for(words, document) if turned else []
    if first < 1.0:
        # Asked from the end of the list. Sorting keeps the order of those on either side.
        end = first * len(document.text)
        chosen.sort(key=lambda asked: document.text.find(asked[1]) < end)
    for i in range(many):
        back = turned > 0 and words.chance(turned)
        if words.chance(unknown):
            text = nobody(words, document) if back else ""
            text = text or missing(words, document, 0.5 * rivals)
            answer = replies.UNKNOWN[words.lang]
        elif back and told:
            text, answer = told.pop()
        elif chosen and turned < 1.0:
            text, answer = chosen.pop()
        else:
            break
        if i == 0:
            text = frame.replace("{c}", document.text).replace("{q}", text)
        turns.append((text, answer))
    return Conversation(system, tuple(turns), document.text)


def brief(words: Words) -> Conversation:
    """Makes a few statements that name no subject, and questions, often on one line."""
    kinds = [a for a in attributes(words.lang) if a.bare and a.subject != "any"]
    kind = words.rng.choice(kinds).subject
    facts: list[Fact] = []
    who = subject(words, kind)
    for attribute in words.rng.sample(kinds, len(kinds)):
        if attribute.subject == kind and not any(attribute.clashes(f.attribute.key) for f in facts):
            facts.append(fact(words, who, attribute))
    unsaid, facts = facts[6:], facts[: words.rng.choice([1, 2, 3, 3, 4, 5, 6])]
    gap, stop = ("", "。") if words.zh else (" ", ".")
    said = [capital(state(words, f, "", bare=True)).rstrip(".") + stop for f in facts]
    for _ in range(len(said) // 2 if words.chance(0.5) else 0):
        said.insert(words.rng.randint(0, len(said)), filler.sentence(words))
    text = gap.join(said)
    asked = []
    for made in facts:
        for slot, _ in made.attribute.asks:
            question = ask(words, made, slot, NOBODY, bare=True)
            if NOBODY not in question:
                asked.append((question, as_written(made.value(slot), text)))
    if not asked:
        return brief(words)
    for made in unsaid[: len(asked) // 2]:
        slot = words.rng.choice(made.attribute.asks)[0]
        question = ask(words, made, slot, NOBODY, bare=True)
        if NOBODY not in question and words.chance(0.4):
            asked.append((question, replies.UNKNOWN[words.lang]))
    words.rng.shuffle(asked)
    frame = words.rng.choice(["{c} {q}", "{c}{q}" if words.zh else "{c} {q} ", "{c}\n\n{q}"])
    first = frame.replace("{c}", text).replace("{q}", asked[0][0])
    return Conversation("", ((first, asked[0][1]), *asked[1:]), text)


def refining(words: Words, count: int) -> Conversation:
    """Shows an existing answer and a new document that may hold a better one."""
    document = write(words, count)
    text, answer = questions(words, document)[0]
    # An answer that is there already may be better or worse than what the document says.
    before = words.phrase() if words.chance(0.5) else replies.UNKNOWN[words.lang]
    if words.chance(0.5):
        text, answer = missing(words, document), before
    frame = words.rng.choice(prompts.REFINE[words.lang])
    user = frame.replace("{c}", document.text).replace("{q}", text).replace("{a}", before)
    return Conversation("", ((user, answer),), document.text)
