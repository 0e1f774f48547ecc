"""Shortening a conversation that is too long, when the caller asks for it. It renders nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from aquila2_runtime.conversation import Message
from aquila2_runtime.errors import (
    ContextOverflowError,
    InvalidRequestError,
    PromptTooLongError,
)

if TYPE_CHECKING:
    from aquila2_runtime.tokenizer import Aquila2Tokenizer

FITS: Final = ("drop_oldest", "middle")
Count = Callable[[Sequence[Message]], int]
Fitted = tuple[list[Message], tuple[str, ...]]


def fit_messages(
    messages: Sequence[Message],
    count: Count,
    budget: int,
    fit: str,
    *,
    tokenizer: Aquila2Tokenizer,
    room: int = 1,
) -> Fitted:
    """Shorten a conversation to a number of tokens.

    Args:
        messages: The turns, oldest first; they are not changed.
        count: Tokens of a rendered conversation.
        budget: Tokens that the prompt may have.
        fit: "drop_oldest" (see ``drop_oldest``) or "middle" (see ``cut_middle``).
        tokenizer: Of the checkpoint.
        room: Tokens left for the answer, for the message of an error: the context less ``budget``.

    Returns:
        What is left, and a notice of what was removed; no notice if everything fits.

    Raises:
        InvalidRequestError: There is no such way of shortening.
        ContextOverflowError: It is too long even then.
    """
    if fit == "drop_oldest":
        return drop_oldest(messages, count, room, budget + room)
    if fit == "middle":
        return cut_middle(messages, count, room, budget + room, tokenizer)
    raise InvalidRequestError(
        f"fit={fit!r:.40} is not valid; it must be one of {', '.join(map(repr, FITS))}.",
        parameter="fit",
        value=fit,
    )


def drop_oldest(messages: Sequence[Message], count: Count, room: int, max_model_len: int) -> Fitted:
    """Drop whole exchanges from the front; system messages and the last question stay.

    An exchange begins with a user's message that follows no other user's, and goes on to the next
    one: questions go together with their tool calls and answers.

    Args:
        messages: The turns, oldest first.
        count: Tokens of a rendered conversation.
        room: Tokens to leave for the answer.
        max_model_len: The context.

    Raises:
        ContextOverflowError: System messages and the last exchange alone are too long.
    """
    if count(messages) + room <= max_model_len:
        return list(messages), ()
    starts = _exchanges(messages)

    def keeping(first: int) -> list[Message]:
        return [
            message
            for index, message in enumerate(messages)
            if index >= first or message.role == "system"
        ]

    # Fewer exchanges have fewer tokens, so the first start that fits is found by halving.
    low, high = 0, len(starts) - 1
    while low < high:
        middle = (low + high) // 2
        if count(keeping(starts[middle])) + room <= max_model_len:
            high = middle
        else:
            low = middle + 1
    left = keeping(starts[low])
    tokens = count(left)
    if tokens + room > max_model_len:
        raise ContextOverflowError(tokens, room if room > 1 else None, max_model_len)
    dropped = len(messages) - len(left)
    notice = f'fit="drop_oldest" dropped the {dropped} oldest messages ({low} exchanges).'
    return left, (notice,)


def cut_middle(
    messages: Sequence[Message],
    count: Count,
    room: int,
    max_model_len: int,
    tokenizer: Aquila2Tokenizer,
) -> Fitted:
    """Cut the middle out of the longest text, keeping as much of both ends as fits.

    This is how LongBench shortens documents: instructions stand at the ends. The cut is made
    between tokens, and a character that it would split is left out.

    Args:
        messages: The turns, oldest first.
        count: Tokens of a rendered conversation.
        room: Tokens to leave for the answer.
        max_model_len: The context.
        tokenizer: Of the checkpoint.

    Raises:
        ContextOverflowError: It is too long even without that text's middle.
    """
    whole = tokens = count(messages)
    if tokens + room <= max_model_len:
        return list(messages), ()
    texts = [tokenizer.encode_ordinary(message.content) for message in messages]
    longest = max(range(len(texts)), key=lambda index: len(texts[index]))
    ids = texts[longest]

    def keeping(kept: int) -> list[Message]:
        head, tail = ids[: kept - kept // 2], ids[len(ids) - kept // 2 :]
        text = _whole(tokenizer, head) + _whole(tokenizer, tail)
        changed = dataclasses.replace(messages[longest], content=text)
        return [*messages[:longest], changed, *messages[longest + 1 :]]

    kept = len(ids)
    left = list(messages)
    while tokens + room > max_model_len:
        # Ends that meet may encode to other tokens, so the excess is taken off until none is left.
        kept -= tokens + room - max_model_len
        if kept <= 0:
            raise ContextOverflowError(whole, room if room > 1 else None, max_model_len)
        left = keeping(kept)
        tokens = count(left)
    notice = (
        f'fit="middle" cut {len(ids) - kept} of {len(ids)} tokens from the middle of message '
        f"{longest} ({messages[longest].role})."
    )
    return left, (notice,)


def refuse_hopeless(characters: int, tokenizer: Aquila2Tokenizer, max_model_len: int) -> None:
    """Refuse, without tokenizing, text that no tokenization could make fit.

    Args:
        characters: Length of the text.
        tokenizer: Of the checkpoint.
        max_model_len: The context.

    Raises:
        PromptTooLongError: It is longer than so many of the longest tokens.
    """
    most = tokenizer.longest_token_characters * max_model_len
    if characters > most:
        raise PromptTooLongError(characters, most, max_model_len)


def _exchanges(messages: Sequence[Message]) -> list[int]:
    """Where exchanges begin; the first at the first message, whatever its role."""
    starts = [0]
    before = "user"
    for index, message in enumerate(messages):
        if message.role == "system":
            continue
        if message.role == "user" and before != "user":
            starts.append(index)
        before = message.role
    return starts


def _whole(tokenizer: Aquila2Tokenizer, ids: Sequence[int]) -> str:
    """Text of ids, without a character that was cut in two."""
    return b"".join(map(tokenizer.token_bytes, ids)).decode("utf-8", "ignore")
