"""LlamaIndex messages into the runtime's: text in, text out. It knows no template and no tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from aquila2_runtime import InvalidPromptError, Message, ToolCall, UnsupportedContentError
from aquila2_runtime.preparing import BRIEF_CHARACTERS, BRIEF_MESSAGES
from llamaindex_aquila2._tool_calls import call_text, read_call

# LlamaIndex's roles by the runtime's four.
ROLES: Final = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.TOOL: "tool",
    MessageRole.FUNCTION: "tool",
}


def check_conversation(messages: object) -> None:
    """Refuse what is no list of at least one ``ChatMessage``.

    Raises:
        InvalidPromptError: It is not one.
    """
    if isinstance(messages, (str, ChatMessage)) or not isinstance(messages, Sequence):
        raise InvalidPromptError(
            f"messages must be a list of ChatMessage, not {type(messages).__name__}.",
            parameter="messages",
            hint='For one question: [ChatMessage("...")].',
        )
    if not messages:
        raise InvalidPromptError("A conversation has at least one message.", parameter="messages")
    for index, message in enumerate(messages):
        if not isinstance(message, ChatMessage):
            raise InvalidPromptError(
                f"Message {index} must be a ChatMessage, not {type(message).__name__}.",
                parameter="messages",
            )


def check_text(prompt: object) -> None:
    """Refuse a prompt that is no string.

    Raises:
        InvalidPromptError: It is not one.
    """
    if not isinstance(prompt, str):
        raise InvalidPromptError(
            f"The prompt must be a string, not {type(prompt).__name__}.", parameter="prompt"
        )


def is_brief(prompt: object) -> bool:
    """Whether a text or conversation is so short that an event loop may read it itself."""
    if isinstance(prompt, str):
        return len(prompt) <= BRIEF_CHARACTERS
    if not isinstance(prompt, (list, tuple)) or len(prompt) > BRIEF_MESSAGES:
        return False
    blocks = [block for message in prompt for block in message.blocks]
    texts = [block.text for block in blocks if isinstance(block, TextBlock)]
    return len(texts) == len(blocks) and sum(map(len, texts)) <= BRIEF_CHARACTERS


def to_runtime_messages(
    messages: Sequence[ChatMessage], system_prompt: str | None = None
) -> list[Message]:
    """Convert a conversation; all its system messages become one, at its head.

    Args:
        messages: The turns, oldest first. ``additional_kwargs`` never reach the
            model; a ``tool_call_id`` finds the name of the tool that answered.
        system_prompt: Put before the system messages, unless one of them is this very text
            already (``LLM.predict`` adds it by itself).

    Raises:
        InvalidPromptError: There is no message, or something in the list is none.
        UnsupportedContentError: A message holds an image, audio clip, video or document.
    """
    check_conversation(messages)
    system: list[str] = []
    turns: list[Message] = []
    names: dict[str, str] = {}
    for index, message in enumerate(messages):
        role, (text, calls) = ROLES[message.role], _read(message, index)
        if role == "system":
            system.append(text)
        else:
            turns.append(_turn(role, message, text, calls, names))
    if system_prompt and system_prompt not in system:
        system.insert(0, system_prompt)
    # A model without a word to answer is the runtime's to refuse; an empty system turn is nobody's.
    merged = "\n\n".join(text for text in system if text)
    return [Message("system", merged), *turns] if merged else turns


def _read(message: ChatMessage, index: int) -> tuple[str, list[ToolCall]]:
    """Return a message's text and the calls in it; blocks are joined by a line break.

    Only the assistant calls; what looks like a call elsewhere is text, and so is a call whose
    arguments are no JSON object.

    Raises:
        UnsupportedContentError: A block is not text; nothing it points to is opened.
    """
    calling = ROLES[message.role] == "assistant"
    pieces: list[str] = []
    calls: list[ToolCall] = []
    for position, block in enumerate(message.blocks):
        if isinstance(block, TextBlock):
            pieces.append(block.text)
        elif isinstance(block, ToolCallBlock):
            call = read_call(block) if calling else None
            if call is None:
                pieces.append(call_text(block))
            else:
                calls.append(call)
        elif isinstance(block, CitableBlock):
            pieces.extend(_inner_text(inner, index, position) for inner in block.content)
        elif isinstance(block, CitationBlock):
            pieces.append(_inner_text(block.cited_content, index, position))
        elif isinstance(block, (CachePoint, ThinkingBlock)):
            continue
        else:
            _unsupported(block, index, position)
    return "\n".join(pieces), calls


def _turn(
    role: str, message: ChatMessage, text: str, calls: list[ToolCall], names: dict[str, str]
) -> Message:
    """One turn; a tool's result gets the tool's name from the call that it answers."""
    for block in message.blocks:
        if isinstance(block, ToolCallBlock) and block.tool_call_id:
            names[block.tool_call_id] = block.tool_name
    if role != "tool":
        return Message(role, text, tool_calls=tuple(calls))
    call_id = message.additional_kwargs.get("tool_call_id")
    call_id = call_id if isinstance(call_id, str) else None
    return Message(role, text, name=names.get(call_id or ""), tool_call_id=call_id)


def plain_prompt(messages: Sequence[ChatMessage]) -> str:
    """Write a conversation as plain text for a base model: one ``role: text`` line per turn.

    The default of ``messages_to_prompt``. Unlike LlamaIndex's own it keeps ``additional_kwargs``
    out of the prompt.

    Raises:
        InvalidPromptError: The messages cannot be written as text.
    """
    converted = to_runtime_messages(messages)
    lines: list[str] = []
    for message in converted:
        lines += [f"{message.role}: {message.content}", *(call.text for call in message.tool_calls)]
    if converted and converted[-1].role == "assistant":
        return "\n".join(lines)
    return "\n".join([*lines, "assistant:"])


def _inner_text(block: object, index: int, position: int) -> str:
    if isinstance(block, TextBlock):
        return block.text
    return _unsupported(block, index, position)


def _unsupported(block: object, index: int, position: int) -> NoReturn:
    kind = str(getattr(block, "block_type", type(block).__name__))
    raise UnsupportedContentError(
        f"Message {index} has a block of type {kind!r} (block {position}); "
        "Aquila2 models read text only.",
        parameter="messages",
        value=kind,
        hint="Pass what it says as text.",
    )
