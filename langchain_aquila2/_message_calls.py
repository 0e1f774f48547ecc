"""Tool calls of messages, in every form LangChain has them, as the runtime's. It knows no turns.

A call is an entry of ``tool_calls`` or a block of the content, as Anthropic, OpenAI or LangChain
write one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from langchain_core.messages import AIMessage, BaseMessage

from aquila2_runtime import InvalidPromptError, ToolCall
from aquila2_runtime.shown import shown
from aquila2_runtime.tools import written_call

_CALLS: Final = ("tool_use", "tool_call", "tool_call_chunk", "invalid_tool_call", "function_call")


def listed_calls(message: BaseMessage, index: int) -> list[tuple[str | None, Any]]:
    """Return the calls beside a message's content, with their ids."""
    if not isinstance(message, AIMessage):
        return []
    calls: Sequence[Any] = (*message.tool_calls, *message.invalid_tool_calls)
    older = message.additional_kwargs.get("function_call")
    if not calls and isinstance(older, Mapping):
        calls = (older,)  # what a FunctionMessage answers; LangChain reads no calls out of it
    return [(call_id_of(call, index), call) for call in calls]


def is_call(block: object) -> bool:
    """Return whether a block of content is a call, whole or cut short."""
    return isinstance(block, Mapping) and block.get("type") in _CALLS


def call_id_of(call: Any, index: int) -> str | None:
    """Return what tells a call written as a block from one that is not.

    OpenAI's blocks have an id of their own beside the call's.

    Raises:
        InvalidPromptError: It is no text.
    """
    found: object = call
    if isinstance(call, Mapping):
        found = call.get("call_id") or call.get("id")
    if found is not None and not isinstance(found, str):
        malformed(f"a tool call with the id {shown(found)}", index)
    return found


def runtime_call(call: Any, index: int) -> ToolCall | str:
    """Return a call; its text where its arguments are no JSON object, as in one cut short.

    Raises:
        InvalidPromptError: The call is malformed.
    """
    if not isinstance(call, Mapping):
        malformed(f"a tool call of type {type(call).__name__}", index)
    name = call.get("name") or ""
    if not isinstance(name, str):
        malformed(f"a tool call with the name {shown(name)}", index)
    given: Any = next((call[key] for key in ("args", "input", "arguments") if key in call), {})
    if not given and isinstance(partial := call.get("partial_json"), str):
        given = partial  # Anthropic's streamed blocks have the arguments here, and an empty input
    try:
        # Through JSON and back, so that what is not JSON is text before a template sees it.
        written = given if isinstance(given, str) else json.dumps(
            {} if given is None else given, ensure_ascii=False, default=str
        )  # fmt: skip
    except (TypeError, ValueError, RecursionError) as error:
        malformed(f"a tool call whose arguments are no JSON ({error})", index)
    return written_call(name, written)


def malformed(what: str, index: int) -> NoReturn:
    """Refuse a message, by its place in the conversation."""
    raise InvalidPromptError(f"Message {index} has {what}.", parameter="messages")
