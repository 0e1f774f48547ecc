"""Tool calls as LlamaIndex's blocks, and out of them again. It knows no tool and no model."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.llms.utils import parse_partial_json

from aquila2_runtime import InvalidPromptError, ToolCall, ToolCallPiece
from aquila2_runtime.shown import shown


def call_blocks(calls: Iterable[ToolCall]) -> list[ToolCallBlock]:
    """Return a whole answer's calls as blocks, each with an id of its own."""
    return [
        ToolCallBlock(tool_call_id=_new_id(), tool_name=call.name, tool_kwargs=dict(call.arguments))
        for call in calls
    ]


class CallStream:
    """The calls of a streamed answer, put together from their pieces."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._names: list[str] = []
        self._arguments: list[str] = []

    def add(self, pieces: Sequence[ToolCallPiece]) -> None:
        """Take what was written since the last delta."""
        for piece in pieces:
            if piece.index == len(self._ids):
                self._ids.append(_new_id())
                self._names.append(piece.name or "")
                self._arguments.append("")
            self._arguments[piece.index] += piece.arguments

    @property
    def begun(self) -> int:
        """How many calls began."""
        return len(self._ids)

    def blocks(self, *, ended: bool) -> list[ToolCallBlock]:
        """Return the calls so far.

        Args:
            ended: Whether the answer did: then arguments are decoded, and calls that an abort or a
                time limit cut in two are left out. Until then they are text.
        """
        made = []
        for call_id, name, text in zip(self._ids, self._names, self._arguments, strict=True):
            arguments: dict[str, Any] | str | None = _decoded(text) if ended else text
            if arguments is not None:
                made.append(
                    ToolCallBlock(tool_call_id=call_id, tool_name=name, tool_kwargs=arguments)
                )
        return made


def answer_message(text: str, calls: Sequence[ToolCallBlock]) -> ChatMessage:
    """Return an assistant's message of text and calls.

    The calls also stand in ``additional_kwargs["tool_calls"]``, in OpenAI's form: LlamaIndex's own
    programs look there to find out that there are any.
    """
    if not calls:
        return ChatMessage(role=MessageRole.ASSISTANT, content=text)
    blocks = [*([TextBlock(text=text)] if text else []), *calls]
    extra = {"tool_calls": [_openai_call(call) for call in calls]}
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=extra)


def selections(message: ChatMessage) -> list[ToolSelection]:
    """Return a message's calls, also those that are still being written."""
    return [
        ToolSelection(
            tool_id=block.tool_call_id or _new_id(),
            tool_name=block.tool_name,
            tool_kwargs=_so_far(block.tool_kwargs),
        )
        for block in message.blocks
        if isinstance(block, ToolCallBlock)
    ]


def read_call(block: ToolCallBlock) -> ToolCall | None:
    """Return a block's call; None where its arguments are a text that is no JSON object.

    Raises:
        InvalidPromptError: They are nested too deeply, or hold themselves.
    """
    arguments = block.tool_kwargs
    if isinstance(arguments, str):
        decoded = _decoded(arguments)
        return None if decoded is None else ToolCall(block.tool_name, decoded)
    try:
        # What JSON does not know is said in words, as it would be to a person.
        plain = json.loads(json.dumps(arguments, default=str))
    except (ValueError, RecursionError) as error:
        raise InvalidPromptError(
            f"The arguments of a call of {shown(block.tool_name)} cannot be written as JSON.",
            parameter="messages",
        ) from error
    return ToolCall(block.tool_name, plain)


def call_text(block: ToolCallBlock) -> str:
    """Return what a prompt says of a call."""
    call = read_call(block)
    return f"{block.tool_name}({block.tool_kwargs})" if call is None else call.text


def _decoded(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _so_far(arguments: dict[str, Any] | str) -> dict[str, Any]:
    if not isinstance(arguments, str):
        return arguments
    try:
        value = parse_partial_json(arguments)
    except (ValueError, IndexError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _openai_call(call: ToolCallBlock) -> dict[str, Any]:
    arguments = call.tool_kwargs
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {
        "id": call.tool_call_id,
        "type": "function",
        "function": {"name": call.tool_name, "arguments": arguments},
    }


def _new_id() -> str:
    """An id for a call; the model writes none."""
    return f"call_{uuid.uuid4().hex}"
