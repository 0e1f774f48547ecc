"""LangChain messages into the runtime's: text and tool calls. It knows no template and no tokens.

Calls become the runtime's ``ToolCall`` and results its tool turns, whatever form they come in:
``tool_calls`` and ``ToolMessage``, or Anthropic's blocks ``tool_use`` and ``tool_result``.
"""

from __future__ import annotations

import dataclasses
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

from aquila2_runtime import InvalidPromptError, Message, ToolCall, UnsupportedContentError
from aquila2_runtime.shown import shown
from langchain_aquila2._message_calls import (
    call_id_of,
    is_call,
    listed_calls,
    malformed,
    runtime_call,
)

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


@dataclasses.dataclass(slots=True)
class _Read:
    """What one message holds."""

    texts: list[str] = dataclasses.field(default_factory=list)
    calls: list[ToolCall] = dataclasses.field(default_factory=list)
    results: list[tuple[str | None, str]] = dataclasses.field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(text for text in self.texts if text)


def to_runtime_messages(messages: Sequence[BaseMessage]) -> list[Message]:
    """Convert a conversation, turn by turn.

    System messages stay where they are: the runtime moves them to the front, with a notice. An
    empty one replaces the template's own system text, unless another has text.

    Blocks of text are joined by line breaks; thinking and reasoning are left out. ``tool_result``
    blocks of a human message become turns of their own before the rest of it. A failed tool's
    answer begins with ``Error: ``. A result without a name gets that of the call it answers.

    Args:
        messages: The turns, oldest first.

    Raises:
        InvalidPromptError: There is no message, one is of a kind that cannot be a turn, or content,
            a block or a tool call is malformed.
        UnsupportedContentError: A message holds an image, audio clip, video or document; nothing
            it points to is opened.
    """
    if not messages:
        raise InvalidPromptError("A conversation has at least one message.", parameter="messages")
    turns: list[Message] = []
    names: dict[str | None, str] = {}  # of the tools, by their calls' ids
    for index, message in enumerate(messages):
        role, read = _role(message, index), _read(message, index, names)
        for call_id, text in read.results:
            turns.append(Message("tool", text, names.get(call_id), tool_call_id=call_id))
        if read.results and not read.text:
            continue
        turns.append(_turn(message, role, read, names))
    if any(turn.role == "system" and turn.content for turn in turns):
        turns = [turn for turn in turns if turn.role != "system" or turn.content]
    return turns


def _turn(message: BaseMessage, role: str, read: _Read, names: Mapping[str | None, str]) -> Message:
    name, text = message.name, read.text
    if role == "system":
        return Message(role, text)
    if role == "assistant":
        # A name alone, before calls, would be said by the model as if it were content.
        return Message(role, text, name if text else None, tuple(read.calls))
    if role == "tool" and isinstance(message, ToolMessage):
        if message.status == "error":
            text = f"Error: {text}"
        call_id: object = getattr(message, "tool_call_id", None)
        if isinstance(call_id, str):
            return Message(role, text, name or names.get(call_id), tool_call_id=call_id)
    return Message(role, text, name)


def _read(message: BaseMessage, index: int, names: dict[str | None, str]) -> _Read:
    """Take a message apart, and note the names of the tools it calls."""
    read = _Read()
    blocks = _blocks(message.content, index)
    calls = listed_calls(message, index)
    # Of two with one id, the first: calls that can be run stand before those that cannot.
    known = {call_id: call for call_id, call in reversed(calls) if call_id is not None}
    written = set()
    for position, block in enumerate(blocks):
        if is_call(block):
            written.add(call_id := call_id_of(block, index))
            # Tools are run by the message's list: a block may be older than it, or unfinished.
            _take_call(known.get(call_id, block), read, index, names)
        else:
            _take(block, read, message, (index, position))
    if isinstance(message, AIMessage):
        for call_id, call in calls:
            if call_id not in written:
                _take_call(call, read, index, names)
    else:
        # Only the assistant calls; what looks like a call elsewhere is text.
        read.texts += (call.text for call in read.calls)
        read.calls = []
    return read


def _take(block: object, read: _Read, message: BaseMessage, place: tuple[int, int]) -> None:
    """Sort one block that is no call into text and results."""
    index, position = place
    text = _block_text(block, index, position)
    if text is None:
        return
    if (
        isinstance(block, Mapping)
        and block.get("type") == "tool_result"
        and isinstance(message, HumanMessage)
    ):
        call_id = block.get("tool_use_id")
        read.results.append((call_id if isinstance(call_id, str) else None, text))
    else:
        read.texts.append(text)


def _take_call(call: Any, read: _Read, index: int, names: dict[str | None, str]) -> None:
    made = runtime_call(call, index)
    if isinstance(made, str):
        read.texts.append(made)
        return
    read.calls.append(made)
    call_id = call_id_of(call, index)
    if call_id is not None:
        names[call_id] = made.name


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
        malformed(f"content of type {type(content).__name__}", index)
    return content


def _block_text(block: object, index: int, position: int, depth: int = 0) -> str | None:
    if isinstance(block, str):
        return block
    if not isinstance(block, Mapping):
        _unsupported(type(block).__name__, index, position)
    kind = block.get("type")
    if kind in _TEXT:
        if not isinstance(block.get("text"), str):
            malformed(f"a block of type {kind!r} without text (block {position})", index)
        return str(block["text"])
    if kind in _DROPPED:
        return None
    if is_call(block):
        call = runtime_call(block, index)
        return call if isinstance(call, str) else call.text
    if kind == "tool_result":
        if depth >= MAX_DEPTH:
            malformed(f"tool results nested more than {MAX_DEPTH} deep", index)
        inner = _blocks(block.get("content") or "", index)
        texts = [_block_text(part, index, position, depth + 1) for part in inner]
        text = "\n".join(piece for piece in texts if piece)
        return f"Error: {text}" if block.get("is_error") else text
    _unsupported(kind, index, position)


def _unsupported(kind: object, index: int, position: int) -> NoReturn:
    raise UnsupportedContentError(
        f"Message {index} has a block of type {shown(kind)} (block {position}); "
        "Aquila2 models read text only.",
        parameter="messages",
        value=kind,
        hint="Pass what it says as text.",
    )
