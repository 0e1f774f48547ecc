"""Owns small talk: greetings, thanks, questions about the model, and open questions it refuses."""

from __future__ import annotations

from . import prompts, replies
from .lexicon import Words
from .talk import Conversation


def _spoken(words: Words, text: str) -> str:
    """Writes a phrase as people type it: with or without capitals and marks."""
    if words.zh:
        asks = any(mark in text for mark in ("什么", "谁", "吗", "怎么", "怎样"))
        return text + ("？" if asks else words.rng.choice("！。")) if words.chance(0.7) else text
    text = text if words.chance(0.25) else text.capitalize().replace(" i ", " I ")
    asks = text.lower().startswith(("who", "what", "how", "which", "are", "can", "do"))
    return (
        (text + ("?" if asks else words.rng.choice("!. "))).strip() if words.chance(0.85) else text
    )


def greeting(words: Words) -> Conversation:
    """Makes one or two greetings or questions about the model."""
    turns = []
    for _ in range(words.rng.choice([1, 1, 2, 3])):
        says, answer = words.rng.choice(replies.GREETINGS[words.lang])
        turns.append((_spoken(words, words.rng.choice(says.split("|"))), answer))
    system = prompts.CHAT_SYSTEM if words.chance(0.15) else ""
    return Conversation(system, tuple(turns))


def open_question(words: Words) -> Conversation:
    """Asks something that no text answers."""
    text = words.rng.choice(replies.OPEN[words.lang])
    name = words.person() if words.chance(0.4) else words.phrase()
    turns = [(text.format(x=name), replies.UNKNOWN[words.lang])]
    if words.chance(0.2):
        turns.insert(0, greeting(words).turns[0])
    return Conversation("", tuple(turns))


def persona(words: Words) -> Conversation:
    """Gives the assistant a name and a place in the system message and asks for them."""
    name, org = words.person(), words.org()
    if words.zh:
        system = words.rng.choice(
            [
                f"你是{name}，{org}的助手。",
                f"你叫{name}，在{org}工作。",
                f"你的名字是{name}。你为{org}服务。",
            ]
        )
        turns = [
            (words.rng.choice(["你是谁？", "你叫什么名字？", "你叫什么？"]), f"我是{name}。"),
            (words.rng.choice(["你在哪里工作？", "你为谁工作？", "你是哪家单位的？"]), f"{org}"),
        ]
    else:
        system = words.rng.choice(
            [
                f"You are {name}, the assistant of {org}.",
                f"Your name is {name} and you work for {org}.",
                f"You are called {name}. You answer questions for {org}.",
            ]
        )
        turns = [
            (
                words.rng.choice(["Who are you?", "What is your name?", "Your name?"]),
                f"I am {name}.",
            ),
            (words.rng.choice(["Who do you work for?", "Where do you work?"]), org),
        ]
    words.rng.shuffle(turns)
    if words.chance(0.4):
        turns.insert(words.rng.randint(0, 2), greeting(words).turns[0])
        turns = [t for t in turns if "aquila2-demo" not in t[1]]
    return Conversation(system, tuple(turns))


def smalltalk(words: Words) -> Conversation:
    """Makes a talk of one of these kinds."""
    r = words.rng.random()
    if r < 0.45:
        return greeting(words)
    return open_question(words) if r < 0.75 else persona(words)
