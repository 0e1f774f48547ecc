"""What a caller's own prompt functions and wrapper put around a text; it knows no template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import LLM, default_completion_to_prompt

from llamaindex_aquila2._messages import plain_prompt


class OwnFunctions(NamedTuple):
    """The caller's own functions, by the names of their fields; None where there is none."""

    messages_to_prompt: Callable[[Sequence[ChatMessage]], str] | None
    completion_to_prompt: Callable[[str], str] | None


def own_functions(llm: LLM) -> OwnFunctions:
    """Return what a caller gave; the fields hold functions where nothing was given, too."""
    converse, complete = llm.messages_to_prompt, llm.completion_to_prompt
    return OwnFunctions(
        None if converse is plain_prompt else converse,
        None if complete is default_completion_to_prompt else complete,
    )


def with_own_prompts(
    llm: LLM, encode: Callable[[str], list[int]], taken: int, *, chats: bool
) -> int:
    """Count the tokens that stand around a text where the caller makes prompts too.

    Args:
        llm: Has the functions, the wrapper and the system prompt.
        encode: The tokenizer.
        taken: What template and system prompt take.
        chats: Whether the template is put around what the wrapper makes.
    """
    wrapper = llm.query_wrapper_prompt
    if chats and wrapper is not None:
        taken += _made_tokens(encode, lambda text: wrapper.format(query_str=text))
    return max([taken, *(_made_tokens(encode, make) for make in _whole_prompts(llm, chats))])


def _whole_prompts(llm: LLM, chats: bool) -> Iterator[Callable[[str], str]]:
    converse, complete = own_functions(llm)
    if converse is not None:
        yield lambda text: converse(llm._extend_messages([ChatMessage(text)]))
    # LlamaIndex puts system prompt and wrapper around what it asks of a base model.
    if complete is not None:
        yield complete if chats else lambda text: llm._extend_prompt(complete(text))
    elif llm.query_wrapper_prompt is not None and not chats:
        yield llm._extend_prompt


def _made_tokens(encode: Callable[[str], list[int]], make: Callable[[str], str]) -> int:
    try:
        # The text's own token stands for one more at the borders, as in a template.
        return len(encode(make("x")))
    except Exception:
        return 0  # told where a prompt is asked for
