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
from aquila2_runtime.shown import shown

# Tool results within tool results; real ones have one level.
MAX_DEPTH: Final = 32

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
        InvalidPromptError: Content, a block or a tool call is malformed.
        UnsupportedContentError: A block is not text; nothing it points to is opened.
    """
    blocks = _blocks(message.content, index)
    pieces = [
        piece
        for position, block in enumerate(blocks)
        if (piece := _block_text(block, index, position)) is not None
    ]
    if isinstance(message, AIMessage):
        written = {_call_id(block, index) for block in blocks if _is_call(block)}
        for call in (*message.tool_calls, *message.invalid_tool_calls):
            if not written or _call_id(call, index) not in written:
                pieces.append(_call_text(call, index))
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
    found: object = getattr(message, "type", type(message).__name__)
    if isinstance(message, ChatMessage):
        found = message.role
        if isinstance(found, str) and found.lower() in _ROLES:
            return _ROLES[found.lower()]
    raise InvalidPromptError(
        f"Message {index} has the role {shown(found)}.",
        parameter="messages",
        value=found,
        hint=f"Roles are {', '.join(_ROLES)}.",
    )


def _blocks(content: object, index: int) -> Sequence[object]:
    """Content as blocks: text is one."""
    if isinstance(content, str):
        return (content,)
    if not isinstance(content, (list, tuple)):
        _malformed(f"content of type {type(content).__name__}", index)
    return content


def _block_text(block: object, index: int, position: int, depth: int = 0) -> str | None:
    if isinstance(block, str):
        return block
    if not isinstance(block, Mapping):
        _unsupported(type(block).__name__, index, position)
    kind = block.get("type")
    if kind in _TEXT:
        if not isinstance(block.get("text"), str):
            _malformed(f"a block of type {kind!r} without text (block {position})", index)
        return str(block["text"])
    if kind in _DROPPED:
        return None
    if kind in _CALLS:
        return _call_text(block, index)
    if kind == "tool_result":
        if depth >= MAX_DEPTH:
            _malformed(f"tool results nested more than {MAX_DEPTH} deep", index)
        inner = _blocks(block.get("content") or "", index)
        texts = [_block_text(part, index, position, depth + 1) for part in inner]
        text = "\n".join(piece for piece in texts if piece)
        return f"Error: {text}" if block.get("is_error") else text
    _unsupported(kind, index, position)


def _is_call(block: object) -> bool:
    return isinstance(block, Mapping) and block.get("type") in _CALLS


def _call_id(call: Any, index: int) -> str | None:
    """What tells a call written as a block from one that is not."""
    found: object = call.get("id") if isinstance(call, Mapping) else call
    if found is not None and not isinstance(found, str):
        _malformed(f"a tool call with the id {shown(found)}", index)
    return found


def _call_text(call: Any, index: int) -> str:
    if not isinstance(call, Mapping):
        _malformed(f"a tool call of type {type(call).__name__}", index)
    name = call.get("name") or ""
    if not isinstance(name, str):
        _malformed(f"a tool call with the name {shown(name)}", index)
    arguments: Any = next((call[key] for key in ("args", "input", "arguments") if key in call), {})
    if not isinstance(arguments, str):
        try:
            arguments = json.dumps(arguments, ensure_ascii=False, default=str)
        except (TypeError, ValueError, RecursionError) as error:
            _malformed(f"a tool call whose arguments are no JSON ({error})", index)
    return f"{name}({arguments})"


def _malformed(what: str, index: int) -> NoReturn:
    raise InvalidPromptError(f"Message {index} has {what}.", parameter="messages")


def _unsupported(kind: object, index: int, position: int) -> NoReturn:
    raise UnsupportedContentError(
        f"Message {index} has a block of type {shown(kind)} (block {position}); "
        "Aquila2 models read text only.",
        parameter="messages",
        value=kind,
        hint="Pass what it says as text.",
    )
