"""LangChain messages into the runtime's: text in, text out. It knows no template and no tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from aquila2_runtime import InvalidPromptError, Message, UnsupportedContentError

_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "tool": "tool",
    "function": "tool",
}
_TEXT: Final = ("text", "input_text", "output_text", "text-plain")
# What a model thought is not part of what it said; cache points and markers hold no text.
_DROPPED: Final = ("thinking", "redacted_thinking", "reasoning", "reasoning_content", "cachePoint")
_CALLS: Final = ("tool_use", "tool_call", "tool_call_chunk", "invalid_tool_call", "function_call")


def to_runtime_messages(messages: Sequence[BaseMessage]) -> list[Message]:
    """Convert a conversation; all its system messages become one, at its head.

    Args:
        messages: The turns, oldest first.

    Raises:
        InvalidPromptError: There is no message, or one of a kind that cannot be a turn.
        UnsupportedContentError: A message holds an image, audio clip, video or document.
    """
    if not messages:
        raise InvalidPromptError("A conversation has at least one message.", parameter="messages")
    system: list[str] = []
    turns: list[Message] = []
    for index, message in enumerate(messages):
        role, text = _role(message, index), message_text(message, index)
        if role == "system":
            system.append(text)
        else:
            turns.append(Message(role, text, message.name))
    merged = "\n\n".join(text for text in system if text)
    return [Message("system", merged), *turns] if merged else turns


def message_text(message: BaseMessage, index: int = 0) -> str:
    """Return a message's text; blocks and tool calls stand on lines of their own.

    A tool call is written ``name({"argument": "value"})``; a failed tool's answer begins with
    ``Error: ``. Thinking and reasoning blocks are left out.

    Args:
        message: Any message.
        index: Its place in the conversation, for errors.

    Raises:
        UnsupportedContentError: A block is not text; nothing it points to is opened.
    """
    content = message.content
    blocks = [content] if isinstance(content, str) else content
    pieces = [
        piece
        for position, block in enumerate(blocks)
        if (piece := _block_text(block, index, position)) is not None
    ]
    if isinstance(message, AIMessage):
        written = {
            block.get("id")
            for block in blocks
            if isinstance(block, Mapping) and block.get("type") in _CALLS
        }
        for call in (*message.tool_calls, *message.invalid_tool_calls):
            if call.get("id") not in written or not written:
                pieces.append(_call_text(call))
    text = "\n".join(piece for piece in pieces if piece)
    if isinstance(message, ToolMessage) and message.status == "error":
        return f"Error: {text}"
    return text


def _role(message: BaseMessage, index: int) -> str:
    for kind, role in (
        (SystemMessage, "system"),
        (HumanMessage, "user"),
        (AIMessage, "assistant"),
        (ToolMessage, "tool"),
        (FunctionMessage, "tool"),
    ):
        if isinstance(message, kind):
            return role
    if isinstance(message, ChatMessage) and message.role.lower() in _ROLES:
        return _ROLES[message.role.lower()]
    found = message.role if isinstance(message, ChatMessage) else message.type
    raise InvalidPromptError(
        f"Message {index} has the role {found!r}.",
        parameter="messages",
        value=found,
        hint=f"Roles are {', '.join(_ROLES)}.",
    )


def _block_text(block: object, index: int, position: int) -> str | None:
    if isinstance(block, str):
        return block
    if not isinstance(block, Mapping):
        _unsupported(type(block).__name__, index, position)
    kind = block.get("type")
    if kind in _TEXT and isinstance(block.get("text"), str):
        return str(block["text"])
    if kind in _DROPPED:
        return None
    if kind in _CALLS:
        return _call_text(block)
    if kind == "tool_result":
        inner = block.get("content") or ""
        parts = [inner] if isinstance(inner, str) else inner
        texts = [_block_text(part, index, position) for part in parts]
        text = "\n".join(piece for piece in texts if piece)
        return f"Error: {text}" if block.get("is_error") else text
    _unsupported(str(kind), index, position)


def _call_text(call: Mapping[str, Any]) -> str:
    arguments: Any = next((call[key] for key in ("args", "input", "arguments") if key in call), {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False, default=str)
    return f"{call.get('name') or ''}({arguments})"


def _unsupported(kind: str, index: int, position: int) -> NoReturn:
    raise UnsupportedContentError(
        f"Message {index} has a block of type {kind!r} (block {position}); "
        "Aquila2 models read text only.",
        parameter="messages",
        value=kind,
        hint="Pass what it says as text.",
    )
