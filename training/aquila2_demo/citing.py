"""Owns talks about numbered sources: the number of the one an answer is from."""

from __future__ import annotations

import re

from . import filler, frames, prompts, replies
from .document import Document, as_written, write
from .facts import ask
from .lexicon import Words
from .reading import missing
from .talk import Conversation
from .values import draw

NUMBER = re.compile(r" \[\d\]$")
KEYS = "code number person phrase phrase org city thing".split()
WHERE = {
    "en": (
        "Which source mentions {k}?",
        "Where is {k} mentioned?",
        "Which document speaks of {k}?",
        "In which source do you find {k}?",
        "Give the number of the source with {k}.",
    ),
    "zh": (
        "哪份资料提到了{k}？",
        "{k}出现在哪一份文档里？",
        "提到{k}的是第几份资料？",
        "请给出含有{k}的资料编号。",
        "在哪份资料里能找到{k}？",
    ),
}


def citing(words: Words, count: int, parts: int, most: int = 4, plain: float = 0.0) -> Conversation:
    """Numbers several documents and wants the number of the one an answer is from.

    Args:
        words: Draws the words.
        count: How many facts.
        parts: How many documents.
        most: The most questions.
        plain: The share of talks whose prompt asks for no number, so that none is given.
    """
    documents = [write(words, max(1, count // parts), 0.1) for _ in range(parts)]
    blocks = [f"[{i + 1}] {d.text}" for i, d in enumerate(documents)]
    asked = []
    for i, document in enumerate(documents):
        for text, answer in _named(words, document, documents):
            asked.append((text, f"{answer} [{i + 1}]"))
    words.rng.shuffle(asked)
    if not asked:
        return citing(words, count, parts)
    if words.chance(0.1):
        place = words.rng.randint(0, min(len(asked), most - 1))
        asked.insert(place, (missing(words, _joined(documents)), replies.UNKNOWN[words.lang]))
    frame = words.rng.choice(prompts.CITE[words.lang])
    if words.chance(plain):
        frame = frames.frame(words)
        asked = [(text, NUMBER.sub("", answer)) for text, answer in asked]
    first = frame.replace("{c}", "\n\n".join(blocks)).replace("{q}", asked[0][0])
    turns = [(first, asked[0][1]), *asked[1:most]]
    return Conversation("", tuple(turns), "\n\n".join(blocks))


def placing(words: Words, length: int) -> Conversation:
    """Numbers sources of a few lines and asks for what they hold: the easiest form of citing.

    The number is one token of an answer, and about running text it was never more than a guess;
    here many questions about few tokens ask for nothing harder. Half of the sources hold names
    alone, mostly one each.
    """
    rng = words.rng
    plain = words.chance(0.5)
    parts = rng.randint(2, max(2, min(8, length // (20 if plain else 40))))
    pairs, blocks = _lines(words, parts, plain, length)
    text = "\n\n".join(blocks) if words.chance(0.7) else "\n".join(blocks)
    names = [k for k in sorted(pairs) if text.count(k) == 1]
    if not names:
        return placing(words, length)
    names = rng.sample(names, min(len(names), 14))
    frame = rng.choice(prompts.CITE[words.lang])
    asked = [(k if words.zh else f"{k}?", f"{pairs[k][0]} [{pairs[k][1]}]") for k in names]
    if plain or words.chance(0.3):
        frame = rng.choice(["{c}\n\n{q}", "{q}\n\n{c}"])
        where = WHERE[words.lang]
        asked = [(rng.choice(where).replace("{k}", k), f"[{pairs[k][1]}]") for k in names]
    first = frame.replace("{c}", text).replace("{q}", asked[0][0])
    return Conversation("", ((first, asked[0][1]), *asked[1:]), text)


def _lines(
    words: Words, parts: int, plain: bool, length: int
) -> tuple[dict[str, tuple[str, int]], list[str]]:
    """Writes the sources: of each name its value, empty where `plain`, and its source's number."""
    rng = words.rng
    colon = rng.choice(["：", "是"] if words.zh else [": ", " is ", " = "])
    key, kind = rng.choice(KEYS), rng.choice(KEYS)
    most = rng.choice([1, 1, 2, 3] if plain else [1, 2, 3, max(1, length // parts // 20)])
    filling = 0.0 if plain else rng.choice([0.0, 0.0, 0.5])
    pairs, blocks = dict[str, tuple[str, int]](), list[str]()
    for number in range(1, parts + 1):
        lines = list[str]()
        for _ in range(rng.randint(1, most)):
            name, value = draw(words, key), "" if plain else draw(words, kind)
            if name not in pairs:
                pairs[name] = (value, number)
                lines.append(name if plain else name + colon + value)
            if words.chance(filling):
                lines.append(filler.sentence(words))
        gap = rng.choice(["\n", "\n", "；" if words.zh else "; "])
        blocks.append(f"[{number}] " + gap.join(lines))
    return pairs, blocks


def _joined(documents: list[Document]) -> Document:
    return Document("", tuple(f for d in documents for f in d.facts))


def _named(words: Words, document: Document, others: list[Document]) -> list[tuple[str, str]]:
    """Asks about subjects that one document alone names."""
    names = [f.subject.name for d in others if d is not document for f in d.facts]
    found = []
    for made in document.facts:
        name = made.subject.name
        if made.subject.anonymous or any(name in n or n in name for n in names):
            continue
        slot = words.rng.choice(made.attribute.asks)[0]
        answer = as_written(made.value(slot), document.text)
        found.append((ask(words, made, slot, name, bare=False), answer))
    return found
