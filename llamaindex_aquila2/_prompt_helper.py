"""LlamaIndex's PromptHelper, mended where it misjudges a small context. It knows no model.

What LlamaIndex 0.14 does otherwise: ``simple_summarize`` formats the list that ``truncate`` gives,
so that its prompt holds a repr, whose escapes nobody counted; compacting puts 500 tokens aside for
an earlier answer even where there is none; what does not fit is a ``ValueError`` without names; and
messages are counted by the process's tokenizer instead of the helper's, in an event loop in a
thread of its own, for which a loop that runs has to wait. A model's system prompt is taken off the
window, which ``Aquila2.metadata`` gives without it already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from llama_index.core.base.llms.types import ChatMessage, TextBlock
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.indices.prompt_helper import DEFAULT_PADDING, PromptHelper
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.prompts import BasePromptTemplate, SelectorPromptTemplate
from llama_index.core.utilities.token_counting import TokenCounter

from aquila2_runtime import ContextOverflowError

# Tokens by which LlamaIndex's estimate exceeds a message's role and text.
_AROUND_MESSAGE: Final = 3
# Of the room for a chunk, most that is put aside for what a later call adds to the prompt.
_PADDING_SHARE: Final = 4


class ModelPromptHelper(PromptHelper):
    """Packs prompts for one model's window and tokenizer.

    Args:
        *args: ``PromptHelper``'s.
        system_prompt: What the window is less already: the system prompt of its model.
        **kwargs: ``PromptHelper``'s.
    """

    _system_prompt: str = PrivateAttr()

    def __init__(self, *args: Any, system_prompt: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._token_counter = ModelTokenCounter(self._token_counter.tokenizer)
        self._system_prompt = system_prompt or ""

    @classmethod
    def class_name(cls) -> str:
        """Return the key of serialised objects."""
        return "ModelPromptHelper"

    def truncate(
        self,
        prompt: BasePromptTemplate,
        text_chunks: Sequence[str],
        padding: int = DEFAULT_PADDING,
        llm: Any = None,
        tools: Any = None,
    ) -> list[str]:
        """Truncate each chunk to its share; the list reads as text where it is formatted."""
        return TextList(super().truncate(prompt, text_chunks, padding, llm, tools))

    def repack(
        self,
        prompt: BasePromptTemplate,
        text_chunks: Sequence[str],
        padding: int = DEFAULT_PADDING,
        llm: Any = None,
        tools: Any = None,
    ) -> list[str]:
        """Pack chunks into as few as fit; padding is for calls after the first, so one has none."""
        one = super().repack(prompt, text_chunks, DEFAULT_PADDING, llm, tools)
        if len(one) <= 1 or padding == DEFAULT_PADDING:
            return one
        return super().repack(prompt, text_chunks, padding, llm, tools)

    def _get_available_context_size(self, num_prompt_tokens: int) -> int:
        if num_prompt_tokens + self.num_output >= self.context_window:
            raise ContextOverflowError(num_prompt_tokens, self.num_output, self.context_window)
        return super()._get_available_context_size(num_prompt_tokens)

    def _get_available_chunk_size(
        self,
        prompt: BasePromptTemplate,
        num_chunks: int = 1,
        padding: int = DEFAULT_PADDING,
        llm: Any = None,
        tools: Any = None,
    ) -> int:
        # What LlamaIndex looks for in the model, but for its system prompt.
        if isinstance(prompt, SelectorPromptTemplate):
            prompt = prompt.select(llm=llm)
        tools = self._get_tools_from_llm(llm, list(tools or ()))
        asked = llm.llm if isinstance(llm, StructuredLLM) else llm
        if asked is not None and (asked.system_prompt or "") == self._system_prompt:
            asked = None
        size = super()._get_available_chunk_size(prompt, num_chunks, 0, asked, tools)
        return max(1, size - min(padding, max(size // _PADDING_SHARE, DEFAULT_PADDING)))


class ModelTokenCounter(TokenCounter):
    """Counts messages of text with its own tokenizer, here and now."""

    def estimate_tokens_in_messages(self, messages: list[ChatMessage]) -> int:
        """Estimate what messages take in a prompt; never less than LlamaIndex would."""
        return sum(map(self._estimate, messages))

    def _estimate(self, message: ChatMessage) -> int:
        texts = [block.text for block in message.blocks if isinstance(block, TextBlock)]
        if len(texts) < len(message.blocks) or message.additional_kwargs:
            return super().estimate_tokens_in_messages([message])
        return sum(map(self.get_string_tokens, [message.role.value, *texts])) + _AROUND_MESSAGE


class TextList(list[str]):
    """Texts that read as text, not as Python's list, where they are formatted into a prompt."""

    def __str__(self) -> str:
        return "\n\n".join(self)

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)
