"""Shortening a conversation that is too long, when the caller asks for it. It renders nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aquila2_runtime.conversation import Message
from aquila2_runtime.errors import ContextOverflowError

if TYPE_CHECKING:
    from aquila2_runtime.tokenizer import Aquila2Tokenizer

Count = Callable[[Sequence[Message]], int]
Fitted = tuple[list[Message], tuple[str, ...]]


def drop_oldest(messages: Sequence[Message], count: Count, room: int, max_model_len: int) -> Fitted:
    """Drop whole exchanges from the front; system messages and the last question stay.

    Args:
        messages: The turns, oldest first.
        count: Tokens of a rendered conversation.
        room: Tokens to leave for the answer.
        max_model_len: The context.

    Returns:
        What is left, and a notice of what was dropped.

    Raises:
        ContextOverflowError: System messages and question alone are too long.
    """
    left = list(messages)
    dropped = 0
    while (tokens := count(left)) + room > max_model_len:
        end = _first_exchange(left)
        if end is None:
            raise ContextOverflowError(tokens, room, max_model_len)
        dropped += sum(1 for message in left[:end] if message.role != "system")
        left = [message for message in left[:end] if message.role == "system"] + left[end:]
    if not dropped:
        return left, ()
    return left, (f'fit="drop_oldest" dropped the {dropped} oldest messages.',)


def cut_middle(
    messages: Sequence[Message],
    count: Count,
    room: int,
    max_model_len: int,
    tokenizer: Aquila2Tokenizer,
) -> Fitted:
    """Cut the middle out of the longest text, keeping as much of both ends as fits.

    Long-document benchmarks do the same: what matters most stands at the ends.

    Args:
        messages: The turns, oldest first.
        count: Tokens of a rendered conversation.
        room: Tokens to leave for the answer.
        max_model_len: The context.
        tokenizer: Of the checkpoint; the cut falls between its tokens.

    Returns:
        The conversation, and a notice of what was cut.

    Raises:
        ContextOverflowError: It is too long even without that text.
    """
    left = list(messages)
    tokens = count(left)
    if tokens + room <= max_model_len:
        return left, ()
    longest = max(range(len(left)), key=lambda index: len(left[index].content))
    ids = tokenizer.encode_ordinary(left[longest].content)

    def keeping(kept: int) -> list[Message]:
        head, tail = ids[: kept - kept // 2], ids[len(ids) - kept // 2 :]
        text = _text(tokenizer, head) + _text(tokenizer, tail)
        changed = dataclasses.replace(left[longest], content=text)
        return [*left[:longest], changed, *left[longest + 1 :]]

    low, high = 0, len(ids) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if count(keeping(middle)) + room <= max_model_len:
            low = middle
        else:
            high = middle - 1
    if low == 0:
        raise ContextOverflowError(tokens, room, max_model_len)
    cut = len(ids) - low
    notice = f'fit="middle" cut {cut} tokens from the middle of message {longest + 1}.'
    return keeping(low), (notice,)


def _first_exchange(messages: Sequence[Message]) -> int | None:
    """Where the second exchange begins: at a user's side message after an assistant's.

    None when there is only one exchange left; what it asks is kept.
    """
    answered = False
    for index, message in enumerate(messages):
        if message.role == "assistant":
            answered = True
        elif answered and message.role != "system":
            return index
    return None


def _text(tokenizer: Aquila2Tokenizer, ids: Sequence[int]) -> str:
    """Text of ids; a character cut in half at the border is left out."""
    return b"".join(map(tokenizer.token_bytes, ids)).decode("utf-8", "ignore")
