"""Owns what is measured: held-out talks of every kind as prompts with accepted answers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import filler, prompts, reasoning, replies, tooltalk
from .citing import citing
from .condensing import condensing
from .document import draw_facts, write
from .facts import ask, capital, state
from .following import following
from .jsontalk import jsontalk
from .lexicon import Words
from .plan import WINDOW
from .reading import missing, reading
from .smalltalk import greeting, open_question, persona
from .summary import HELD_ASKS, summing_up
from .talk import Conversation, prompt_text
from .telling import telling

Talk = Callable[[Words], Conversation]
NOTED = set(replies.NOTED.values())
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
# How many facts make a document of about so many tokens with its prompt and earlier questions.
FACTS = {
    "256 tokens": {"en": 9, "zh": 12},
    "512": {"en": 20, "zh": 32},
    "1K": {"en": 50, "zh": 77},
    "1.8K": {"en": 88, "zh": 155},
    "3.5K": {"en": 215, "zh": 360},
    "14K": {"en": 860, "zh": 1440},
}
LONG = {"14K"}  # read in one of the longer windows alone


@dataclass(frozen=True)
class Item:
    """A prompt and the answers that count as right; `data` compares JSON by value."""

    prompt: str
    accepted: tuple[str, ...]
    data: bool = False

    def right(self, answer: str) -> bool:
        """Judges an answer: exactly an accepted one, case and a final stop aside."""
        if self.data:
            return _parsed(answer) == _parsed(self.accepted[0])
        return plain(answer) in {plain(text) for text in self.accepted}


def plain(text: str) -> str:
    """Takes off what an answer may differ in."""
    return text.strip().rstrip(".。").lower()


def _parsed(text: str) -> object:
    calls = text.strip().split("\n") if text.startswith("<tool_call>") else [text]
    bare = [c.removeprefix("<tool_call>").removesuffix("</tool_call>") for c in calls]
    try:
        return [json.loads(c) for c in bare]
    except ValueError:
        return text


def items(
    lang: str,
    count: int,
    talk: Talk,
    keep: Callable[[str, str], bool] | None = None,
    odd: bool = False,
    seed: int = 4242,
) -> Iterator[Item]:
    """Yields the turns of held-out talks; earlier turns carry the true answers.

    Args:
        lang: The language.
        count: How many.
        talk: Makes the talks.
        keep: Chooses turns by what the user says and what the answer is.
        odd: Whether facts are stated in the wordings kept out of training.
        seed: Where the draws start.
    """
    words, given = Words(random.Random(seed), lang, held=True, odd=odd), 0
    while given < count:
        made = talk(words)
        for i, (user, answer) in enumerate(made.turns):
            if answer in NOTED or given >= count or (keep and not keep(user, answer)):
                continue
            given += 1
            yield Item(prompt_text(made, i), (answer,), answer.startswith(("{", "<tool_call>")))


def _unanswerable(words: Words) -> Conversation:
    document = write(words, 7)
    frame = words.rng.choice(prompts.FRAMEWORK + prompts.OWN[words.lang])
    text = frame.replace("{c}", document.text).replace("{q}", missing(words, document))
    return Conversation("", ((text, replies.UNKNOWN[words.lang]),))


def _is_call(user: str, answer: str) -> bool:
    return answer.startswith("<tool_call>") and not user.startswith("Tool result")


def _is_result(user: str, answer: str) -> bool:
    return user.startswith("Tool result") and not answer.startswith("<tool_call>")


def _about(facts: int) -> Talk:
    return lambda w: reading(w, facts, 3, 0.0)


def _framed(facts: int, frames: list[str]) -> Talk:
    return lambda w: reading(w, facts, 3, 0.0, w.rng.choice(frames))


def abilities(
    lang: str, window: int = WINDOW
) -> dict[str, tuple[Talk, Callable[[str, str], bool] | None]]:
    """Lists the held-out measurements of one language, of a model that reads `window` tokens."""
    facts = {
        name: each[lang] for name, each in FACTS.items() if name not in LONG or window > WINDOW
    }
    found: dict[str, tuple[Talk, Callable[[str, str], bool] | None]] = {
        **{f"extraction, about {name}": (_about(many), None) for name, many in facts.items()},
        "prompts never seen": (_framed(8, prompts.HELD_OUT[lang]), None),
        "LangChain stuff": (_framed(8, [prompts.LANGCHAIN_STUFF]), None),
        "LangChain hub": (_framed(8, [prompts.LANGCHAIN_HUB]), None),
        "LlamaIndex question": (_framed(8, [prompts.LLAMAINDEX_QA]), None),
        "not in the document": (_unanswerable, None),
        "open question": (open_question, lambda _, a: a == replies.UNKNOWN[lang]),
        "who or what it is told of": (lambda w: reading(w, 9, 3, 0.0, turned=1.0), None),
        "recall over turns": (lambda w: telling(w, 4), None),
        "lists": (_lists, None),
        "comparison": (reasoning.comparing, lambda _, a: not a[0].isdigit()),
        "two steps in one question": (lambda w: reasoning.two_steps(w, 6), None),
        "tools: the call, of 1 to 4": (
            lambda w: tooltalk.calling(w, w.rng.randint(1, 4), 2),
            _is_call,
        ),
        "tools: the call, of 6": (lambda w: tooltalk.calling(w, 6, 2), _is_call),
        "tools: two calls at once": (lambda w: tooltalk.several(w, 4), _is_call),
        "tools: second call from a result": (
            lambda w: tooltalk.chained(w, 4),
            lambda u, a: u.startswith("Tool") and a.startswith("<"),
        ),
        "tools: answer from a result": (lambda w: tooltalk.calling(w, 3, 2, 1.0), _is_result),
        "tools: none needed": (lambda w: tooltalk.unneeded(w, 3, 256), None),
        "JSON": (lambda w: jsontalk(w, 6), None),
        "citing": (lambda w: citing(w, 9, 3), lambda _, a: a != replies.UNKNOWN[lang]),
        "small talk": (greeting, None),
        "persona of the system text": (persona, lambda _, a: "?" not in a and "？" not in a),
        "follow-up made to stand alone": (condensing, None),
        "summary of a record": (summing_up, None),
        "summary, asked for as never seen": (lambda w: summing_up(w, HELD_ASKS[lang]), None),
    }
    for style in ("sentence", "short", "chinese", "english", "prefix"):
        found[f"instruction: {style}"] = (_style(style), None)
    return found


def _style(style: str) -> Talk:
    return lambda w: following(w, 7, style)


def _lists(words: Words) -> Conversation:
    return reasoning.everyone(words, 6) if words.chance(0.5) else reasoning.shelf(words, 9)


def needles(
    lang: str, length: int, depth: float, count: int, size: Callable[[str], int]
) -> Iterator[Item]:
    """Yields one fact in filler of about `length` tokens, at a depth from 0 (start) to 1."""
    words = Words(random.Random(7 + length), lang, held=True)
    left = count
    while left:
        made = words.rng.choice(draw_facts(words, 3))
        if made.subject.anonymous:
            continue
        left -= 1
        slot = words.rng.choice(made.attribute.asks)[0]
        stop, gap = ("。", "") if words.zh else (".", " ")
        needle = capital(state(words, made, made.subject.name)) + stop
        question = ask(words, made, slot, made.subject.name, bare=False)
        hay, used = list[str](), size(needle) + size(question) + 20
        while used < length:
            hay.append(filler.sentence(words))
            used += size(hay[-1]) + 1
        hay.insert(round(depth * len(hay)), needle)
        text = f"{gap.join(hay)}\n\n{question}"
        yield Item(prompt_text(Conversation("", ((text, ""),)), 0), (made.value(slot),))


def prose(lang: str, frame: str) -> Iterator[Item]:
    """Yields the questions about the hand-written pages of `prose.json`."""
    pages = json.loads((Path(__file__).parent / "prose.json").read_text(encoding="utf-8"))[lang]
    for page in pages:
        for question, accepted in page["qa"]:
            user = frame.replace("{c}", page["text"]).replace("{q}", question)
            yield Item(prompt_text(Conversation("", ((user, ""),)), 0), tuple(accepted))
