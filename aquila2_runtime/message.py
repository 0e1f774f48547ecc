"""Message: one message of a conversation. It knows no template and no ids."""

from __future__ import annotations

import dataclasses
from typing import Final

from aquila2_runtime.errors import InvalidPromptError
from aquila2_runtime.plain_text import check_text
from aquila2_runtime.tools import ToolCall

ROLES: Final = ("system", "user", "assistant", "tool")


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Args:
        role: "system", "user", "assistant" or "tool".
        content: Its text, taken literally.
        name: Who speaks, or which tool answered; shown to the model as text.
        tool_calls: The calls an assistant made; no other role has any.
        tool_call_id: Which call a tool's result answers, for the caller; not shown to the model.

    Raises:
        InvalidPromptError: The role does not exist, content or name is no text, or the calls are
            none.
    """

    role: str
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        if not isinstance(self.role, str) or self.role not in ROLES:
            raise InvalidPromptError(
                f"role={self.role!r:.80} is not valid; it must be one of "
                f"{', '.join(map(repr, ROLES))}.",
                parameter="role",
                value=self.role,
            )
        check_text(self.content, "content")
        if self.name is not None:
            check_text(self.name, "name")
        if self.tool_call_id is not None:
            check_text(self.tool_call_id, "tool_call_id")
        calls = self.tool_calls
        if not isinstance(calls, (tuple, list)) or not all(
            isinstance(call, ToolCall) for call in calls
        ):
            raise InvalidPromptError(
                "tool_calls must be a tuple of ToolCall.", parameter="tool_calls"
            )
        if calls and self.role != "assistant":
            raise InvalidPromptError(
                f"A message of the role {self.role!r} has tool_calls; only the assistant calls.",
                parameter="tool_calls",
            )
        object.__setattr__(self, "tool_calls", tuple(calls))

    @property
    def characters(self) -> int:
        """How long it is, with its name and calls."""
        calls = sum(len(call.text) for call in self.tool_calls)
        return len(self.content) + len(self.name or "") + calls
