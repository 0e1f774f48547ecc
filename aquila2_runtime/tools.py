"""Tool, ToolCall and their text: how tools are shown to a model and how it calls them.

It knows neither messages nor ids, and enforces nothing: the grammar does that.

Aquila2 was not trained for tools and its templates have no place for them, so they are text, in
one form for every template:

* ``tools_text``, put behind the system text, lists each tool as a signature in the manner of
  TypeScript, with its description. JSON schemas say the same at three times the length, and the
  7B chat model reads 2,048 tokens in all.
* A call is one line, ``<tool_call>{"name": "...", "arguments": {...}}</tool_call>``, as many
  openly trained models write it. Several calls are several lines.
* A result is a turn on the user's side (see ``aquila2_runtime.conversation``).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from aquila2_runtime.errors import InvalidConstraintError, InvalidPromptError
from aquila2_runtime.grammar.schema_bounds import check_schema
from aquila2_runtime.plain_text import check_text
from aquila2_runtime.signatures import members, properties, signature

__all__ = ["Tool", "ToolCall", "check_tools", "signature", "tools_text"]

CALL_OPENING: Final = "<tool_call>"
CALL_CLOSING: Final = "</tool_call>"

_INSTRUCTION: Final = (
    "To call a tool, write only a line of this form, with the tool's name and its arguments:\n"
    f'{CALL_OPENING}{{"name": "...", "arguments": {{...}}}}{CALL_CLOSING}'
)
_NAME: Final = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
MAX_TOOLS: Final = 128
_MAX_DESCRIPTION: Final = 16_000


@dataclasses.dataclass(frozen=True, slots=True)
class Tool:
    """A tool a model may call.

    Args:
        name: 1 to 64 letters, digits, ``_``, ``-`` or ``.``.
        description: What it does, for the model; may be empty.
        parameters: The JSON schema of its arguments, of type object; None for no arguments.

    Attributes:
        text: The schema as it is enforced.
        dropped: Keywords that are not enforced, each with its place.

    Raises:
        InvalidPromptError: The name is malformed, or ``parameters`` is no object's schema.
        InvalidConstraintError: The schema is malformed or too large.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = dataclasses.field(default=None, hash=False)
    text: str = dataclasses.field(init=False, repr=False, compare=False)
    dropped: tuple[str, ...] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check every field, and keep the schema as it is enforced."""
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise InvalidPromptError(
                f"{self.name!r:.80} is no name for a tool.",
                parameter="tools",
                value=self.name,
                hint="Use 1 to 64 letters, digits, underscores, hyphens or dots.",
            )
        if len(check_text(self.description, "description")) > _MAX_DESCRIPTION:
            raise InvalidPromptError(
                f"The description of the tool {self.name} has more than {_MAX_DESCRIPTION} "
                "characters.",
                parameter="tools",
            )
        schema = self.parameters
        if schema is not None and (
            not isinstance(schema, Mapping) or schema.get("type", "object") != "object"
        ):
            raise InvalidPromptError(
                f'The parameters of the tool {self.name} must be a JSON schema of type "object".',
                parameter="tools",
                value=self.name,
            )
        try:
            text, dropped = check_schema(
                {"type": "object", **self.schema}, strict=False, parameter="tools"
            )
        except InvalidConstraintError as error:
            raise InvalidConstraintError(
                f"The parameters of the tool {self.name}: {error.message}",
                parameter=error.parameter,
                value=error.value,
                hint=error.hint,
            ) from error
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "dropped", dropped)
        # A copy: what is shown to the model and what is enforced must be the same thing.
        object.__setattr__(self, "parameters", json.loads(json.dumps(schema)))

    @property
    def schema(self) -> dict[str, Any]:
        """The schema of the arguments; ``parameters``, or that of an empty object."""
        if self.parameters is None:
            return {"type": "object", "properties": {}, "additionalProperties": False}
        return dict(self.parameters)


@dataclasses.dataclass(frozen=True, slots=True)
class ToolCall:
    """A call a model made.

    Attributes:
        name: The tool's name.
        arguments: Its arguments, decoded.

    Raises:
        InvalidPromptError: The name is no text, or the arguments are nothing that JSON can say.
    """

    name: str
    arguments: Mapping[str, Any] = dataclasses.field(hash=False)

    def __post_init__(self) -> None:
        """Check that it can be written."""
        if not isinstance(self.name, str) or not isinstance(self.arguments, Mapping):
            raise InvalidPromptError(
                "A call has a name and a mapping of arguments, not "
                f"{type(self.name).__name__} and {type(self.arguments).__name__}.",
                parameter="tool_calls",
            )
        try:
            _ = self.text
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidPromptError(
                f"The arguments of a call of {self.name:.80} cannot be written as JSON: "
                f"{error!s:.200}.",
                parameter="arguments",
                hint="Write dates and their like as strings.",
            ) from error

    @property
    def text(self) -> str:
        """The call as the model writes it."""
        body = {"name": self.name, "arguments": dict(self.arguments)}
        return (
            f"{CALL_OPENING}{json.dumps(body, ensure_ascii=False, allow_nan=False)}{CALL_CLOSING}"
        )


def written_call(name: str, arguments: str) -> ToolCall | str:
    """Return a call by its arguments' JSON text; as text itself where that is no JSON object.

    Such a call was cut short, or made up by a model that nothing held to its form.

    Raises:
        InvalidPromptError: The arguments are nothing that JSON can say.
    """
    try:
        found = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return ToolCall(name, found)
    body = f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {arguments}}}'
    return f"{CALL_OPENING}{body}{CALL_CLOSING}"


def check_tools(tools: object) -> tuple[Tool, ...]:
    """Return a request's tools, none for None.

    Raises:
        InvalidPromptError: It is no list of at most 128 tools with different names.
    """
    if tools is None:
        return ()
    if not isinstance(tools, (list, tuple)) or not all(isinstance(one, Tool) for one in tools):
        raise InvalidPromptError("tools must be a list of Tool.", parameter="tools")
    if len(tools) > MAX_TOOLS:
        raise InvalidPromptError(
            f"There are {len(tools)} tools, more than {MAX_TOOLS}.",
            parameter="tools",
            value=len(tools),
        )
    names: set[str] = set()
    for tool in tools:
        if tool.name in names:
            raise InvalidPromptError(
                f"Two tools are called {tool.name}.", parameter="tools", value=tool.name
            )
        names.add(tool.name)
    return tuple(tools)


def tools_text(tools: Sequence[Tool]) -> str:
    """Return the text that shows tools to a model; empty for none.

    Example:
        >>> print(tools_text([Tool("now", "Get the time.")]))
        You can call these tools:
        - now(): Get the time.
        To call a tool, write only a line of this form, with the tool's name and its arguments:
        <tool_call>{"name": "...", "arguments": {...}}</tool_call>
    """
    if not tools:
        return ""
    lines = ["You can call these tools:"]
    for tool in tools:
        lines += _tool_lines(tool)
    return "\n".join([*lines, _INSTRUCTION])


def _tool_lines(tool: Tool) -> Iterator[str]:
    schema = tool.schema
    head = f"- {tool.name}({members(schema)})"
    yield f"{head}: {_one_line(tool.description)}" if tool.description else head
    for name, member in properties(schema).items():
        about = member.get("description") if isinstance(member, Mapping) else None
        if isinstance(about, str) and about:
            yield f"  {name}: {_one_line(about)}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
