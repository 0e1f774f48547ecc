"""Owns condensing: a follow-up question rewritten so that it stands alone."""

from __future__ import annotations

from . import prompts, replies
from .facts import ask, facts_about, refer
from .lexicon import Words
from .subjects import subject
from .talk import Conversation

MARK = "\u2063"


def condensing(words: Words) -> Conversation:
    """Shows a short history and a question that leans on it; wants the full question."""
    rng = words.rng
    who = subject(words, rng.choice(["person", "org", "place", "item", "project", "event"]))
    facts = [f for f in facts_about(words, who, 6) if f.attribute.asks]
    if who.anonymous or len(facts) < 2:
        return condensing(words)
    first, then = rng.sample(facts, 2)
    slot = rng.choice(first.attribute.asks)[0]
    text = ask(words, first, slot, who.name, bare=False)
    follow = ask(words, then, rng.choice(then.attribute.asks)[0], MARK, bare=False)
    # After an answer that names another of the kind, a pronoun could mean that one.
    if MARK not in follow or first.names_another:
        return condensing(words)
    spoken = [(text, first.value(slot))]
    if words.chance(0.3):
        other = subject(words, "person")
        spoken.insert(0, (f"{other.name}?", replies.UNKNOWN[words.lang]))
    names = rng.choice([("Human", "Assistant"), ("user", "assistant"), ("用户", "助手")])
    if not words.zh and names[0] == "用户":
        names = ("user", "assistant")
    history = "\n".join(f"{names[0]}: {q}\n{names[1]}: {a}" for q, a in spoken)
    leaning = refer(follow.replace(MARK, "{e}"), who.pronoun, words.lang)
    frame = rng.choice(prompts.CONDENSE[words.lang])
    user = frame.replace("{h}", history).replace("{q}", leaning)
    return Conversation("", ((user, follow.replace(MARK, who.name)),))
