"""What a caller's own prompt functions and wrapper put around a text; it knows no template."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import LLM, default_completion_to_prompt

from llamaindex_aquila2._messages import plain_prompt


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
    return max(taken, *(_made_tokens(encode, make) for make in _whole_prompts(llm, chats)), 0)


def _whole_prompts(llm: LLM, chats: bool) -> Iterator[Callable[[str], str]]:
    converse, complete = llm.messages_to_prompt, llm.completion_to_prompt
    if converse is not None and converse is not plain_prompt:
        yield lambda text: converse(llm._extend_messages([ChatMessage(text)]))
    # LlamaIndex puts system prompt and wrapper around what it asks of a base model.
    if complete is not None and complete is not default_completion_to_prompt:
        yield complete if chats else lambda text: llm._extend_prompt(complete(text))
    elif llm.query_wrapper_prompt is not None and not chats:
        yield llm._extend_prompt


def _made_tokens(encode: Callable[[str], list[int]], make: Callable[[str], str]) -> int:
    try:
        # The text's own token stands for one more at the borders, as in a template.
        return len(encode(make("x")))
    except Exception:
        return 0  # told where a prompt is asked for
