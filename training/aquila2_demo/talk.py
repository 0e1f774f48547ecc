"""Owns conversations: a system text and turns, and how they are rendered for training."""

from __future__ import annotations

from dataclasses import dataclass


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


def series(items: list[str], lang: str) -> str:
    """Joins items as a list is written in running text."""
    if len(items) == 1:
        return items[0]
    comma, last = ("、", "和") if lang == "zh" else (", ", " and ")
    return comma.join(items[:-1]) + last + items[-1]
