"""LlamaIndex's ChatMemoryBuffer, held to its limit. It knows no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.memory import ChatMemoryBuffer

from llamaindex_aquila2._tool_calls import call_text

_ANSWERS: Final = (MessageRole.ASSISTANT, MessageRole.TOOL)


class ModelChatMemory(ChatMemoryBuffer):
    """A chat memory that never gives an answer back that is longer than its limit.

    LlamaIndex's own returns the last message however long it is, which overfills a small context
    where that message is an answer and a question follows. It also refuses to work beside a system
    message that is longer than the limit, where this one gives nothing back but the question. And
    it counts what is said only, where calls take room in the prompt too.
    """

    def get(
        self, input: str | None = None, initial_token_count: int = 0, **kwargs: Any
    ) -> list[ChatMessage]:
        """Return the newest messages within the limit; the question that is being asked, always.

        Args:
            input: Not used, as in LlamaIndex's own.
            initial_token_count: Tokens of the system messages that go before them.
            **kwargs: Not used.
        """
        history = self.get_all()
        taken = min(initial_token_count, self.token_limit)

        def fits(start: int) -> bool:
            return taken + self._token_count_for_messages(history[start:]) <= self.token_limit

        found = history[_first_fitting(_starts(history), fits) :]
        if found or not history or history[-1].role != MessageRole.USER:
            return found
        return history[-1:]

    def _token_count_for_messages(self, messages: list[ChatMessage]) -> int:
        blocks = (block for message in messages for block in message.blocks)
        calls = "".join(call_text(block) for block in blocks if isinstance(block, ToolCallBlock))
        said = super()._token_count_for_messages(messages)
        return said + len(self.tokenizer_fn(calls)) if calls else said


def _starts(history: Sequence[ChatMessage]) -> list[int]:
    """Where its newest part may begin: with the oldest, a question or the newest, or at the end."""
    last = len(history) - 1
    places = (
        place
        for place, message in enumerate(history)
        if place in (0, last) or message.role not in _ANSWERS
    )
    return [*places, len(history)]


def _first_fitting(starts: Sequence[int], fits: Callable[[int], bool]) -> int:
    """The earliest start that fits, counted from the newest on: old history costs nothing.

    LlamaIndex's own counts all of a history, then all but its first message, and so on.
    """
    step, best = 1, len(starts) - 1  # nothing fits anywhere
    while best >= step and fits(starts[best - step]):
        best, step = best - step, 2 * step
    short = max(best - step, -1)  # does not fit, or is before the beginning
    while best - short > 1:
        middle = (short + best) // 2
        if fits(starts[middle]):
            best = middle
        else:
            short = middle
    return starts[best]
