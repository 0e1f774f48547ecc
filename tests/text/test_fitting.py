"""Shortening long conversations: only when asked, always told, never below what was asked for."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquila2_runtime.conversation import render_messages
from aquila2_runtime.errors import ContextOverflowError, InvalidRequestError, PromptTooLongError
from aquila2_runtime.fitting import Count, Window, fit_messages, refuse_hopeless
from aquila2_runtime.message import Message
from aquila2_runtime.templates import TEMPLATES
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from tests.text.support import PROSE

RULES = Message("system", "Answer briefly.")
TALK = [
    Message("user", "Q1 " * 20),
    Message("assistant", "A1 " * 20),
    Message("user", "Q2 " * 20),
    Message("assistant", "calc(2)"),
    Message("tool", "2", name="calc"),
    Message("assistant", "A2 " * 20),
    Message("user", "Q3a"),
    Message("user", "Q3b"),
]


def counter(tokenizer: Aquila2Tokenizer, template: str = "aquila-legacy") -> Count:
    def count(messages: Sequence[Message]) -> int:
        parts = render_messages(messages, TEMPLATES[template]).parts
        return len(tokenizer.encode_parts(parts))

    return count


def window(budget: int, room: int = 1, least: int | None = None) -> Window:
    """A context of ``budget`` tokens beside the answer's room."""
    return Window(budget + room, room, room if least is None else least)


@pytest.mark.parametrize("fit", ["drop_oldest", "middle"])
def test_what_fits_is_left_alone(fit: str, tokenizer: Aquila2Tokenizer) -> None:
    """P8: no change and no notice, also at the last token."""
    count = counter(tokenizer)
    for spare in (0, 1, 1000):
        fitted = fit_messages(TALK, count, window(count(TALK) + spare), fit, tokenizer=tokenizer)
        assert fitted == (TALK, ())


def test_whole_exchanges_are_dropped_from_the_front(tokenizer: Aquila2Tokenizer) -> None:
    """P8: system messages and the last question stay; as little as needed goes."""
    messages = [RULES, *TALK]
    count = counter(tokenizer)
    shorter = [
        ([RULES, *TALK[first:]], first, number) for number, first in ((1, 2), (2, 6), (3, 7))
    ]
    for budget in range(count(shorter[-1][0]), count(messages)):
        left, notices = fit_messages(
            messages, count, window(budget), "drop_oldest", tokenizer=tokenizer
        )
        expected, dropped, exchanges = next(item for item in shorter if count(item[0]) <= budget)
        assert left == expected
        assert notices == (
            f'fit="drop_oldest" dropped the {dropped} oldest messages ({exchanges} exchanges).',
        )
    assert messages == [RULES, *TALK]


def test_a_question_that_cannot_fit_is_refused(tokenizer: Aquila2Tokenizer) -> None:
    """P8: the question is never dropped."""
    count = counter(tokenizer)
    least = count([RULES, TALK[7]])
    with pytest.raises(ContextOverflowError) as caught:
        fit_messages([RULES, *TALK], count, window(least - 1), "drop_oldest", tokenizer=tokenizer)
    assert caught.value.prompt_tokens == least
    assert caught.value.max_model_len == least


def test_ten_thousand_messages_are_dropped_in_few_steps(small: Aquila2Tokenizer) -> None:
    """P10: the number of renderings grows with the logarithm."""
    messages = TALK[:2] * 5000 + [Message("user", "last")]
    calls = 0
    count = counter(small)

    def counted(some: Sequence[Message]) -> int:
        nonlocal calls
        calls += 1
        return count(some)

    left, _ = fit_messages(messages, counted, window(3000), "drop_oldest", tokenizer=small)
    assert left[-1].content == "last"
    assert 3000 - count(TALK[:2]) < count(left) <= 3000
    assert calls < 25


LONG = st.lists(st.sampled_from(PROSE), min_size=20, max_size=60).map("".join)


@given(text=LONG, share=st.floats(0.2, 0.95), template=st.sampled_from(sorted(TEMPLATES)))
def test_the_middle_is_cut_to_the_token(
    text: str, share: float, template: str, tokenizer: Aquila2Tokenizer
) -> None:
    """P8: head and tail stay, in halves; the budget is kept and nearly used."""
    messages = [RULES, Message("user", text), Message("assistant", "ok"), Message("user", "Q?")]
    count = counter(tokenizer, template)
    whole, around = count(messages), count([messages[0], Message("user", ""), *messages[2:]])
    budget = around + 8 + int(share * (whole - around - 8))
    left, notices = fit_messages(messages, count, window(budget), "middle", tokenizer=tokenizer)
    assert budget - 8 <= count(left) <= budget
    kept = left[1].content
    assert [*left[:1], *left[2:]] == [*messages[:1], *messages[2:]]
    assert len(notices) == 1
    assert "message 1 (user)" in notices[0]
    head = len(kept)
    while head and not text.startswith(kept[:head]):
        head -= 1
    assert text.endswith(kept[head:])
    ids = tokenizer.encode_ordinary(text)
    half = (len(tokenizer.encode_ordinary(kept)) - 8) // 2
    for end in (ids[: max(half, 0)], ids[len(ids) - max(half, 0) :]):
        assert tokenizer.decode(end).strip("\ufffd") in kept


@given(text=LONG)
def test_a_cut_leaves_no_broken_character(text: str, small: Aquila2Tokenizer) -> None:
    """D2: a character that the cut would split is left out."""
    count = counter(small)
    for budget in range(80, 100):
        left, _ = fit_messages(
            [RULES, Message("user", text)], count, window(budget), "middle", tokenizer=small
        )
        assert "\ufffd" not in left[1].content


def test_a_conversation_that_no_cut_can_fit_is_refused(tokenizer: Aquila2Tokenizer) -> None:
    """P8: said with the length it has."""
    count = counter(tokenizer)
    with pytest.raises(ContextOverflowError) as caught:
        fit_messages(TALK, count, window(40, 5), "middle", tokenizer=tokenizer)
    assert caught.value.prompt_tokens == count(TALK)
    assert caught.value.max_model_len == 45
    assert caught.value.max_tokens == 5


@pytest.mark.parametrize("fit", ["oldest", "", None, True])
def test_another_way_of_fitting_is_refused(fit: object, small: Aquila2Tokenizer) -> None:
    """P8: with the choices."""
    with pytest.raises(InvalidRequestError, match="'drop_oldest', 'middle'"):
        fit_messages(TALK, counter(small), window(10), fit, tokenizer=small)  # type: ignore[arg-type]


def test_hopeless_text_is_refused_without_tokenizing(tokenizer: Aquila2Tokenizer) -> None:
    """P7: by its length alone; 10 ms would be generous, the guard is only for a hang."""
    most = tokenizer.longest_token_characters * 2048
    refuse_hopeless(most, tokenizer, 2048)
    start = time.perf_counter()
    with pytest.raises(PromptTooLongError) as caught:
        refuse_hopeless(most + 1, tokenizer, 2048)
    assert time.perf_counter() - start < 1
    assert caught.value.characters == most + 1
    assert caught.value.max_characters == most
    assert caught.value.prompt_tokens > 2048


def test_every_message_without_an_answer_is_an_exchange(small: Aquila2Tokenizer) -> None:
    """P8: ten thousand user messages in a row once counted as one, and nothing was dropped."""
    messages = [RULES, *(Message("user", f"Note {number}") for number in range(10_000))]
    count = counter(small)
    left, notices = fit_messages(messages, count, window(2_000), "drop_oldest", tokenizer=small)
    assert left[0] == RULES
    assert left[1:] == messages[-len(left) + 1 :]
    more = [RULES, messages[-len(left)], *left[1:]]
    assert count(left) <= 2_000 < count(more)
    gone = len(messages) - len(left)
    assert notices == (f'fit="drop_oldest" dropped the {gone} oldest messages ({gone} exchanges).',)


@pytest.mark.parametrize(
    ("roles", "starts"),
    [
        ("u", [0]),
        ("uau", [0, 2]),
        ("suau", [0, 3]),
        ("uuau", [0, 1, 3]),
        ("auau", [0, 1, 3]),
        ("uatatu", [0, 5]),
        ("usu", [0, 2]),
        ("ss", [0]),
        ("uat", [0]),
    ],
)
def test_where_exchanges_begin(roles: str, starts: list[int], small: Aquila2Tokenizer) -> None:
    """T3: with a user's message, whatever stands before it."""
    names = {"u": "user", "a": "assistant", "t": "tool", "s": "system"}
    messages = [Message(names[letter], "word " * 20) for letter in roles]
    count = counter(small)
    for number, first in enumerate(starts):
        kept = [m for at, m in enumerate(messages) if at >= first or m.role == "system"]
        left, notices = fit_messages(
            messages, count, window(count(kept)), "drop_oldest", tokenizer=small
        )
        assert left == kept
        assert bool(notices) == bool(number)


class Work:
    """Characters given to a tokenizer."""

    def __init__(self, tokenizer: Aquila2Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.characters = 0
        encode = tokenizer._encoder.encode

        def counted(text: str) -> list[int]:
            self.characters += len(text)
            return encode(text)

        monkeypatch.setattr(tokenizer._encoder, "encode", counted)


def varied(characters: int, seed: int = 0) -> str:
    """Chinese, English and code without a pattern."""
    chooser = random.Random(seed)
    pieces: list[str] = []
    length = 0
    while length < characters:
        piece = chooser.choice(PROSE) or chr(chooser.randrange(0x4E00, 0x9FA5)) * 3
        pieces.append(piece)
        length += len(piece)
    return "".join(pieces)[:characters]


@pytest.mark.parametrize("fit", ["drop_oldest", "middle"])
@pytest.mark.parametrize("text", ["varied", "spaces", "one letter", "ideographs"])
def test_the_work_is_bounded_by_what_fits_not_by_what_is_given(
    fit: str, text: str, small: Aquila2Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D10 of fitting: four times the characters are no more work, counted at the tokenizer."""
    make = {
        "varied": varied,
        "spaces": lambda length: " " * length,
        "one letter": lambda length: "a" * length,
        "ideographs": lambda length: "".join(
            chr(0x4E00 + number * 7919 % 20_000) for number in range(length)
        ),
    }[text]
    spent = []
    count = counter(small)
    for characters in (500_000, 2_000_000):
        long = make(characters)
        with monkeypatch.context() as patched:
            work = Work(small, patched)
            messages = [RULES, Message("user", long), Message("assistant", "ok")]
            messages.append(Message("user", "Q?"))
            left, _ = fit_messages(messages, count, window(1_000, 100), fit, tokenizer=small)
            spent.append(work.characters)
        assert count(left) <= 1_000
        assert (fit == "middle") == (len(left) == 4)
    assert spent[1] <= 1.2 * spent[0]
    assert spent[1] < 64 * small.longest_token_characters * 1_100


def test_a_long_history_of_long_turns_is_not_read_to_its_beginning(
    small: Aquila2Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P10: what cannot fit by its text alone is never rendered."""
    turns = [Message("user", varied(1_000, seed)) for seed in range(400)]
    count = counter(small)
    work = Work(small, monkeypatch)
    left, _ = fit_messages(turns, count, window(2_000), "drop_oldest", tokenizer=small)
    assert left == turns[-len(left) :]
    assert work.characters < 60_000


def cut_by_whole_tokens(
    text: str, messages: list[Message], count: Count, budget: int, tokenizer: Aquila2Tokenizer
) -> str:
    """The definition: the middle cut out of the text's own tokens, all of them made."""
    ids = tokenizer.encode_ordinary(text)
    kept, tokens, shorter = len(ids), count(messages), text
    while tokens > budget:
        kept -= tokens - budget
        ends = (ids[: kept - kept // 2], ids[len(ids) - kept // 2 :])
        shorter = "".join(
            b"".join(map(tokenizer.token_bytes, end)).decode("utf-8", "ignore") for end in ends
        )
        tokens = count([messages[0], Message("user", shorter), *messages[2:]])
    return shorter


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["varied", "ideographs", "runs"])
def test_a_long_text_is_cut_as_if_all_of_it_had_been_tokenized(
    seed: int, kind: str, tokenizer: Aquila2Tokenizer
) -> None:
    """P8: looking only at the ends changes nothing of what is kept."""
    chooser = random.Random(seed)
    length = chooser.randrange(5_000, 40_000)
    text = {
        "varied": lambda: varied(length, seed),
        "ideographs": lambda: "".join(
            chr(chooser.randrange(0x4E00, 0x9FA5)) for _ in range(length)
        ),
        "runs": lambda: "".join(
            chooser.choice("ab 中0\n.") * chooser.randrange(1, 30) for _ in range(length // 10)
        ),
    }[kind]()
    messages = [RULES, Message("user", text), Message("assistant", "ok"), Message("user", "Q?")]
    count = counter(tokenizer, chooser.choice(sorted(TEMPLATES)))
    budget = chooser.randrange(120, 400)
    left, notices = fit_messages(messages, count, window(budget), "middle", tokenizer=tokenizer)
    assert left[1].content == cut_by_whole_tokens(text, messages, count, budget, tokenizer)
    assert f"cut {len(text) - len(left[1].content)} of {len(text)} characters" in notices[0]


@pytest.mark.parametrize("fit", ["drop_oldest", "middle"])
def test_a_wish_for_room_gives_way_where_no_shortening_can_grant_it(
    fit: str, small: Aquila2Tokenizer
) -> None:
    """P9: a default answer length is no reason to refuse; one that was asked for is."""
    messages = [
        Message("user", "old " * 20),
        Message("assistant", "ok"),
        Message("user", "x " * 90),
    ]
    count = counter(small)
    last = count(messages[2:] if fit == "drop_oldest" else messages)
    length = last + 30
    left, _ = fit_messages(messages, count, Window(length, 400, 1), fit, tokenizer=small)
    assert left[-1].content == messages[-1].content or fit == "middle"
    assert count(left) + 30 <= length
    with pytest.raises(ContextOverflowError) as caught:
        fit_messages(messages, count, Window(length, 400, 400), fit, tokenizer=small)
    assert caught.value.max_tokens == 400
