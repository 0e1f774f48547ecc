"""LlamaIndex's ChatMemoryBuffer, held to its limit. It knows no model."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory import ChatMemoryBuffer


class ModelChatMemory(ChatMemoryBuffer):
    """A chat memory that never gives an answer back that is longer than its limit.

    LlamaIndex's own returns the last message however long it is, which overfills a small context
    where that message is an answer and a question follows. It also refuses to work beside a system
    message that is longer than the limit, where this one gives nothing back but the question.
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
        taken = min(initial_token_count, self.token_limit)
        found = super().get(input, taken, **kwargs)
        too_long = taken + self._token_count_for_messages(found) > self.token_limit
        if too_long and found[-1].role != MessageRole.USER:
            return []
        return found
