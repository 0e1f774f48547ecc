"""LlamaIndex's helpers set up for one model: splitters, memory, globals. It knows no generation.

LlamaIndex counts tokens with OpenAI's tokenizer unless told otherwise, and captures that choice
when a helper is made. The helpers made here count with the model's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from aquila2_runtime.errors import InvalidRequestError
from aquila2_runtime.shown import shown

if TYPE_CHECKING:
    from llama_index.core.base.llms.types import LLMMetadata
    from llama_index.core.indices.prompt_helper import PromptHelper
    from llama_index.core.memory import ChatMemoryBuffer
    from llama_index.core.node_parser import SentenceSplitter

Tokenize = Callable[[str], list[int]]

# Tokens of the longest instructions LlamaIndex wraps around context, with a system message and a
# question.
_INSTRUCTIONS: Final = 400


def _share(metadata: LLMMetadata) -> int:
    """Tokens of a chunk, and of a chat memory.

    Two retrieved chunks (LlamaIndex's default), the memory and as much again for what the messages
    themselves take go into one prompt beside the instructions and the answer. What does not, is
    refined call by call, with the answer so far in every prompt.
    """
    room = metadata.context_window - metadata.num_output
    return max(room - _INSTRUCTIONS, room // 4) // 4


def make_prompt_helper(
    metadata: LLMMetadata, tokenize: Tokenize, system_prompt: str | None
) -> PromptHelper:
    """Make a PromptHelper for the model's real window, less its system prompt, and tokenizer."""
    from llamaindex_aquila2._prompt_helper import ModelPromptHelper

    return ModelPromptHelper(
        context_window=metadata.context_window,
        num_output=metadata.num_output,
        tokenizer=tokenize,
        system_prompt=system_prompt,
    )


def make_node_parser(
    metadata: LLMMetadata, tokenize: Tokenize, chunk_size: int | None, chunk_overlap: int | None
) -> SentenceSplitter:
    """Make a splitter whose chunk sizes are in the model's own tokens.

    Raises:
        InvalidRequestError: The sizes are not positive, or the overlap is not below the size.
    """
    from llama_index.core.node_parser import SentenceSplitter

    _check_integers(chunk_size=chunk_size, chunk_overlap=chunk_overlap)
    size = max(16, min(1024, _share(metadata))) if chunk_size is None else chunk_size
    overlap = size // 10 if chunk_overlap is None else chunk_overlap
    if size < 1 or not 0 <= overlap < size:
        raise InvalidRequestError(
            f"chunk_size={size} with chunk_overlap={overlap} is not valid; the size must be "
            "positive and the overlap from 0 to below it.",
            parameter="chunk_size",
            value=size,
        )
    return SentenceSplitter(chunk_size=size, chunk_overlap=overlap, tokenizer=tokenize)


def make_chat_memory(
    metadata: LLMMetadata, tokenize: Tokenize, token_limit: int | None
) -> ChatMemoryBuffer:
    """Make a memory that leaves room for retrieved context and the answer.

    Raises:
        InvalidRequestError: The limit is not positive or leaves no room for the answer.
    """
    from llamaindex_aquila2._chat_memory import ModelChatMemory

    _check_integers(token_limit=token_limit)
    room = metadata.context_window - metadata.num_output
    limit = max(1, _share(metadata)) if token_limit is None else token_limit
    if not 0 < limit <= max(room, 1):
        raise InvalidRequestError(
            f"token_limit={limit} is not valid; beside an answer of {metadata.num_output} tokens "
            f"the context has room for {room}.",
            parameter="token_limit",
            value=limit,
        )
    return ModelChatMemory.from_defaults(token_limit=limit, tokenizer_fn=tokenize)


def _check_integers(**given: object) -> None:
    for name, value in given.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise InvalidRequestError(
                f"{name}={shown(value)} is not valid; it must be an integer or None.",
                parameter=name,
                value=value,
            )
