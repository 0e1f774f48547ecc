"""Shortening long conversations: only when asked, always told, never below what was asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquila2_runtime.conversation import Message, render_messages
from aquila2_runtime.errors import ContextOverflowError, InvalidRequestError, PromptTooLongError
from aquila2_runtime.fitting import Count, fit_messages, refuse_hopeless
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


@pytest.mark.parametrize("fit", ["drop_oldest", "middle"])
def test_what_fits_is_left_alone(fit: str, tokenizer: Aquila2Tokenizer) -> None:
    """P8: no change and no notice, also at the last token."""
    count = counter(tokenizer)
    for spare in (0, 1, 1000):
        fitted = fit_messages(TALK, count, count(TALK) + spare, fit, tokenizer=tokenizer)
        assert fitted == (TALK, ())


def test_whole_exchanges_are_dropped_from_the_front(tokenizer: Aquila2Tokenizer) -> None:
    """P8: system messages and the last question stay; as little as needed goes."""
    messages = [RULES, *TALK]
    count = counter(tokenizer)
    second, last = [RULES, *TALK[2:]], [RULES, *TALK[6:]]
    for budget in range(count(last), count(messages)):
        left, notices = fit_messages(messages, count, budget, "drop_oldest", tokenizer=tokenizer)
        expected, dropped, exchanges = (second, 2, 1) if budget >= count(second) else (last, 6, 2)
        assert left == expected
        assert notices == (
            f'fit="drop_oldest" dropped the {dropped} oldest messages ({exchanges} exchanges).',
        )
    assert messages == [RULES, *TALK]


def test_a_question_that_cannot_fit_is_refused(tokenizer: Aquila2Tokenizer) -> None:
    """P8: the question is never dropped."""
    count = counter(tokenizer)
    least = count([RULES, *TALK[6:]])
    with pytest.raises(ContextOverflowError) as caught:
        fit_messages([RULES, *TALK], count, least - 1, "drop_oldest", tokenizer=tokenizer)
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

    left, _ = fit_messages(messages, counted, 3000, "drop_oldest", tokenizer=small)
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
    left, notices = fit_messages(messages, count, budget, "middle", tokenizer=tokenizer)
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
            [RULES, Message("user", text)], count, budget, "middle", tokenizer=small
        )
        assert "\ufffd" not in left[1].content


def test_a_conversation_that_no_cut_can_fit_is_refused(tokenizer: Aquila2Tokenizer) -> None:
    """P8: said with the length it has."""
    count = counter(tokenizer)
    with pytest.raises(ContextOverflowError) as caught:
        fit_messages(TALK, count, 40, "middle", tokenizer=tokenizer, room=5)
    assert caught.value.prompt_tokens == count(TALK)
    assert caught.value.max_model_len == 45
    assert caught.value.max_tokens == 5


@pytest.mark.parametrize("fit", ["oldest", "", None, True])
def test_another_way_of_fitting_is_refused(fit: object, small: Aquila2Tokenizer) -> None:
    """P8: with the choices."""
    with pytest.raises(InvalidRequestError, match="'drop_oldest', 'middle'"):
        fit_messages(TALK, counter(small), 10, fit, tokenizer=small)  # type: ignore[arg-type]


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
