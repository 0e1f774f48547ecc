"""Shortening a conversation that is too long, when the caller asks for it. It renders nothing.

The work is bounded by what can fit, not by what is given: a long text is looked at only at its
ends, and turns that cannot fit by their texts alone are never rendered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from aquila2_runtime.errors import (
    ContextOverflowError,
    InvalidRequestError,
    PromptTooLongError,
)
from aquila2_runtime.message import Message
from aquila2_runtime.request_options import FITS
from aquila2_runtime.shown import shown

if TYPE_CHECKING:
    from aquila2_runtime.tokenizer import Aquila2Tokenizer

Count = Callable[[Sequence[Message]], int]
Fitted = tuple[list[Message], tuple[str, ...]]

# Characters of a token, to begin with; text that has more of them is looked at twice as far.
_CHARACTERS: Final = 4
# Tokens that a text may save by what stands beside it in a rendered prompt; an upper bound.
_MERGED: Final = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """The context, and what of it is kept for the answer.

    Attributes:
        max_model_len: Tokens of prompt and answer together.
        room: Tokens the answer is to have.
        least: Tokens it must have, where no shortening leaves ``room``.
    """

    max_model_len: int
    room: int
    least: int

    def holds(self, tokens: int) -> bool:
        """Whether a prompt of so many tokens leaves the room wanted."""
        return tokens + self.room <= self.max_model_len

    def check(self, tokens: int) -> None:
        """Refuse a prompt that leaves less than the least.

        Raises:
            ContextOverflowError: It does.
        """
        if tokens + self.least > self.max_model_len:
            asked = self.least if self.least > 1 else None
            raise ContextOverflowError(tokens, asked, self.max_model_len)


def fit_messages(
    messages: Sequence[Message],
    count: Count,
    window: Window,
    fit: str,
    *,
    tokenizer: Aquila2Tokenizer,
) -> Fitted:
    """Shorten a conversation to what a window holds.

    Args:
        messages: The turns, oldest first; they are not changed.
        count: Tokens of a rendered conversation.
        window: What it is to fit into.
        fit: "drop_oldest" (see ``drop_oldest``) or "middle" (see ``cut_middle``).
        tokenizer: Of the checkpoint.

    Returns:
        What is left, and a notice of what was removed; no notice if everything fits.

    Raises:
        InvalidRequestError: There is no such way of shortening.
        ContextOverflowError: It is too long even then.
    """
    if fit not in FITS:
        raise InvalidRequestError(
            f"fit={shown(fit)} is not valid; it must be one of {', '.join(map(repr, FITS))}.",
            parameter="fit",
            value=fit,
        )
    characters = sum(message.characters for message in messages)
    # A short one is measured whole at once: mostly it fits.
    if characters <= _CHARACTERS * window.max_model_len and window.holds(count(messages)):
        return list(messages), ()
    shorten = drop_oldest if fit == "drop_oldest" else cut_middle
    return shorten(messages, count, window, tokenizer)


def drop_oldest(
    messages: Sequence[Message], count: Count, window: Window, tokenizer: Aquila2Tokenizer
) -> Fitted:
    """Drop whole exchanges from the front; system messages and the last question stay.

    An exchange is a user's message with all that follows it up to the next one: its answer, its
    tool calls and their results, or nothing. What stands before the first user's message is one
    exchange too.

    Args:
        messages: The turns, oldest first.
        count: Tokens of a rendered conversation.
        window: What it is to fit into.
        tokenizer: Of the checkpoint.

    Raises:
        ContextOverflowError: System messages and the last exchange alone are too long.
    """
    starts = _exchanges(messages)

    def keeping(first: int) -> list[Message]:
        return [
            message
            for index, message in enumerate(messages)
            if index >= first or message.role == "system"
        ]

    # Fewer exchanges have fewer tokens, so the first start that fits is found by halving.
    low, high = _first_to_try(messages, starts, window, tokenizer), len(starts) - 1
    while low < high:
        middle = (low + high) // 2
        if window.holds(count(keeping(starts[middle]))):
            high = middle
        else:
            low = middle + 1
    left = keeping(starts[low])
    refuse_hopeless(sum(len(message.content) for message in left), tokenizer, window.max_model_len)
    window.check(count(left))
    if low == 0:
        return left, ()
    dropped = len(messages) - len(left)
    notice = f'fit="drop_oldest" dropped the {dropped} oldest messages ({low} exchanges).'
    return left, (notice,)


def cut_middle(
    messages: Sequence[Message], count: Count, window: Window, tokenizer: Aquila2Tokenizer
) -> Fitted:
    """Cut the middle out of the longest text, keeping as much of both ends as fits.

    This is how LongBench shortens documents: instructions stand at the ends. The cut is made
    between tokens, and a character that it would split is left out.

    Args:
        messages: The turns, oldest first.
        count: Tokens of a rendered conversation.
        window: What it is to fit into.
        tokenizer: Of the checkpoint.

    Raises:
        ContextOverflowError: It is too long even without that text's middle.
    """
    longest, ids = _longest(messages, count, window, tokenizer)
    left = list(messages)

    def tokens_with(text: str) -> int:
        left[longest] = dataclasses.replace(messages[longest], content=text)
        return count(left)

    # A wish for room (see ``Window``) takes at most half of what the other messages leave.
    spare = window.max_model_len - tokens_with("")
    room = min(window.room, max(window.least, spare // 2))
    tokens, kept = tokens_with(_ends(messages[longest].content, window, tokenizer)), len(ids)
    if tokens + room <= window.max_model_len:
        return list(messages), ()
    while tokens + room > window.max_model_len:
        # Ends that meet may encode to other tokens, so the excess is taken off until none is left.
        kept -= tokens + room - window.max_model_len
        if kept <= 0:
            _refuse(messages, count, window, tokenizer)
        head, tail = ids[: kept - kept // 2], ids[len(ids) - kept // 2 :]
        tokens = tokens_with(_whole(tokenizer, head) + _whole(tokenizer, tail))
    before, after = len(messages[longest].content), len(left[longest].content)
    notice = (
        f'fit="middle" cut {before - after} of {before} characters from the middle of message '
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
    spoken = [index for index, message in enumerate(messages) if message.role != "system"]
    return [0, *(index for index in spoken[1:] if messages[index].role == "user")]


def _first_to_try(
    messages: Sequence[Message],
    starts: Sequence[int],
    window: Window,
    tokenizer: Aquila2Tokenizer,
) -> int:
    """The first exchange that may be kept: with an earlier one the texts alone are too long."""
    tokens = sum(
        _least_tokens(message, window, tokenizer)
        for message in messages
        if message.role == "system"
    )
    end = len(messages)
    for place in range(len(starts) - 1, -1, -1):
        for message in messages[starts[place] : end]:
            if message.role != "system":
                tokens += _least_tokens(message, window, tokenizer)
            if tokens > window.max_model_len:
                return min(place + 1, len(starts) - 1)
        end = starts[place]
    return 0


def _least_tokens(message: Message, window: Window, tokenizer: Aquila2Tokenizer) -> int:
    """Tokens that a message takes at least; of a very long one, more than the context."""
    ids = tokenizer.encode_ordinary(_ends(message.content, window, tokenizer))
    return max(len(ids) - _MERGED, 0)


def _longest(
    messages: Sequence[Message], count: Count, window: Window, tokenizer: Aquila2Tokenizer
) -> tuple[int, list[int]]:
    """The message with most tokens, and its ids; of a very long one, those of its ends.

    Raises:
        ContextOverflowError: The other messages alone are too long.
    """
    longest, ids, others = 0, list[int](), 0
    for index, message in enumerate(messages):
        found = tokenizer.encode_ordinary(_ends(message.content, window, tokenizer))
        if len(found) > len(ids):
            longest, ids, found = index, found, ids
        others += max(len(found) - _MERGED, 0)
        if others > window.max_model_len:
            _refuse(messages, count, window, tokenizer)
    return longest, ids


def _ends(text: str, window: Window, tokenizer: Aquila2Tokenizer) -> str:
    """A text's two ends, each of more tokens than the context has; the text itself if shorter.

    What is kept of a cut text lies in the outer halves of these ends. How a text goes on changes
    its tokens only near there, so the ids kept are those that the whole text would have.
    """
    half = len(text) // 2
    sizes = []
    for forward in (True, False):
        size = _CHARACTERS * window.max_model_len
        while size < half:
            end = text[:size] if forward else text[-size:]
            if len(tokenizer.encode_ordinary(end)) > window.max_model_len:
                break
            size *= 2
        sizes.append(size)
    head, tail = sizes
    return text if head >= half or tail >= half else text[:head] + text[-tail:]


def _refuse(
    messages: Sequence[Message], count: Count, window: Window, tokenizer: Aquila2Tokenizer
) -> NoReturn:
    """Say how long the whole conversation is; only here is all of it tokenized."""
    characters = sum(message.characters for message in messages)
    refuse_hopeless(characters, tokenizer, window.max_model_len)
    asked = window.least if window.least > 1 else None
    raise ContextOverflowError(count(messages), asked, window.max_model_len)


def _whole(tokenizer: Aquila2Tokenizer, ids: Sequence[int]) -> str:
    """Text of ids, without a character that was cut in two."""
    return b"".join(map(tokenizer.token_bytes, ids)).decode("utf-8", "ignore")
