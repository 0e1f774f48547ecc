"""LlamaIndex's PromptHelper, mended where it misjudges a small context. It knows no model.

What LlamaIndex 0.14 does otherwise: ``simple_summarize`` formats the list that ``truncate`` gives,
so that its prompt holds a repr, whose escapes nobody counted; compacting puts 500 tokens aside for
an earlier answer even where there is none; and what does not fit is a ``ValueError`` without names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from llama_index.core.indices.prompt_helper import DEFAULT_PADDING, PromptHelper
from llama_index.core.prompts import BasePromptTemplate

from aquila2_runtime import ContextOverflowError

# Of the room for a chunk, most that is put aside for what a later call adds to the prompt.
_PADDING_SHARE: Final = 4


class ModelPromptHelper(PromptHelper):
    """Packs prompts for one model's window and tokenizer."""

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
        size = super()._get_available_chunk_size(prompt, num_chunks, 0, llm, tools)
        return max(1, size - min(padding, max(size // _PADDING_SHARE, DEFAULT_PADDING)))


class TextList(list[str]):
    """Texts that read as text, not as Python's list, where they are formatted into a prompt."""

    def __str__(self) -> str:
        return "\n\n".join(self)

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)
