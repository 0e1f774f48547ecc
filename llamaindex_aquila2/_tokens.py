"""Token counting without weights: tokenizer and template costs. It generates nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from aquila2_runtime import Message, RuntimeLease
from llamaindex_aquila2._messages import plain_prompt

if TYPE_CHECKING:
    from aquila2_runtime.tokenizer import Aquila2Tokenizer


def load_tokenizer(lease: RuntimeLease) -> Aquila2Tokenizer:
    """Return the checkpoint's tokenizer; reads its files, never its weights.

    Raises:
        CheckpointError: The checkpoint cannot be found, or its files are wrong.
    """
    options = lease.options
    if lease.loaded or options is None:
        return lease.runtime().tokenizer
    from aquila2_runtime.checkpoint.config import read_config
    from aquila2_runtime.checkpoint.resolve import resolve
    from aquila2_runtime.tokenizer import Aquila2Tokenizer

    resolved = resolve(
        options.model,
        source=options.source,
        revision=options.revision,
        cache_dir=options.cache_dir,
        offline=options.offline or None,
        allow_pickle=options.allow_pickle,
        progress=options.progress,
    )
    config = read_config(resolved.path)
    return Aquila2Tokenizer.load(
        resolved.path,
        vocab_size=config.vocab_size,
        allow_unknown=options.allow_unknown_tokenizer,
    )


def template_tokens(tokenizer: Aquila2Tokenizer, template: str, system_prompt: str | None) -> int:
    """Count what a template adds to one user message, the system prompt included.

    Args:
        tokenizer: Of the checkpoint.
        template: Its name.
        system_prompt: The system prompt in force.
    """
    from aquila2_runtime.conversation import render_messages
    from aquila2_runtime.templates import get_template

    word = "x"
    messages = [Message("user", word)]
    if system_prompt:
        messages.insert(0, Message("system", system_prompt))
    rendered = render_messages(messages, get_template(template))
    around = len(tokenizer.encode_parts(rendered.parts)) - len(tokenizer.encode_ordinary(word))
    # A border token may join text on either side; one more keeps the count an upper bound.
    return around + 1


def plain_tokens(encode: Callable[[str], list[int]], system_prompt: str | None) -> int:
    """Count what plain text adds to one text, the system prompt included.

    That of a chat, which names its roles; a completion adds less.

    Args:
        encode: The tokenizer.
        system_prompt: The system prompt in force.
    """
    word = "x"
    messages = [ChatMessage(word)]
    if system_prompt:
        messages.insert(0, ChatMessage(system_prompt, role=MessageRole.SYSTEM))
    before, after = plain_prompt(messages).rsplit(word, 1)
    # As in a template, one more for the borders.
    return len(encode(before)) + len(encode(after)) + 1
