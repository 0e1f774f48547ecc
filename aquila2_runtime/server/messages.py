"""OpenAI's chat messages as the runtime's. It knows no template, and opens nothing it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from aquila2_runtime.errors import InvalidPromptError, UnsupportedContentError
from aquila2_runtime.message import Message
from aquila2_runtime.server.bodies import ChatMessage
from aquila2_runtime.shown import shown
from aquila2_runtime.tools import ToolCall, written_call

_TEXTS: Final = ("text", "refusal")


def runtime_messages(messages: Sequence[ChatMessage]) -> list[Message]:
    """Convert a conversation, message by message; a tool's result gets the name of its tool.

    Raises:
        InvalidPromptError: A message has no content, or a part of it is malformed.
        UnsupportedContentError: A part is no text.
    """
    made: list[Message] = []
    names: dict[str, str] = {}  # of the tools, by their calls' ids
    for place, message in enumerate(messages):
        role = "system" if message.role == "developer" else message.role
        text, calls = _text(message.content, place), list[ToolCall]()
        for call in message.tool_calls or ():
            if role != "assistant":
                _refuse(f"messages.{place}.tool_calls", "only an assistant's message has calls")
            if call.id is not None:
                names[call.id] = call.function.name
            read = written_call(call.function.name, call.function.arguments)
            if isinstance(read, ToolCall):
                calls.append(read)
            else:
                text = f"{text}\n{read}" if text else read
        if message.content is None and not message.tool_calls:
            _refuse(f"messages.{place}.content", "it has no content")
        name = message.name
        if role == "tool" and name is None and message.tool_call_id is not None:
            name = names.get(message.tool_call_id)
        # A name alone, before calls, would be said by the model as if it were content.
        name = name if text or not calls else None
        answered = message.tool_call_id if role == "tool" else None
        made.append(Message(role, text, name, tuple(calls), answered))
    return made


def _text(content: str | Sequence[Mapping[str, Any]] | None, place: int) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for position, part in enumerate(content):
        kind = part.get("type")
        where = f"messages.{place}.content.{position}"
        if kind not in _TEXTS:
            raise UnsupportedContentError(
                f"{where} is of the type {shown(kind)}; this model reads text alone.",
                parameter=where,
                value=kind,
            )
        said = part.get(kind)
        if not isinstance(said, str):
            _refuse(where, f"its {kind} must be a string")
        texts.append(said)
    return "\n".join(texts)


def _refuse(where: str, why: str) -> NoReturn:
    raise InvalidPromptError(f"{where} is not valid: {why}.", parameter=where)
