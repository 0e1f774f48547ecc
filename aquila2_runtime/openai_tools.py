"""Tools and tool choices in OpenAI's form as the runtime's. It calls no tool and knows no message.

The server and the adapters read them here, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aquila2_runtime.errors import InvalidConstraintError, InvalidPromptError
from aquila2_runtime.grammar.constraints import JsonSchema
from aquila2_runtime.shown import shown
from aquila2_runtime.tools import Tool

# Words of other providers for the runtime's three.
CHOICES: Final[dict[object, str]] = {
    "auto": "auto",
    "any": "any",
    "required": "any",
    True: "any",
    "none": "none",
    False: "none",
}


def runtime_tools(tools: Sequence[Mapping[str, Any]]) -> list[Tool]:
    """Return tools in OpenAI's form as the runtime's.

    Raises:
        InvalidPromptError: A tool's name or schema is malformed.
        InvalidConstraintError: A tool is ``strict`` and its schema has a keyword that cannot be
            enforced. Otherwise such a keyword is left out, and a notice of the answer names it.
    """
    made = []
    for tool in tools:
        function = tool["function"]
        name, parameters = function.get("name"), function.get("parameters")
        # A tool without arguments may say {} or {"type": "object"}: then it takes none.
        bare = not parameters or not (parameters.keys() - {"type", "title", "description"})
        schema = None if bare else parameters
        made.append(Tool(name, function.get("description") or "", schema))
        if function.get("strict") and schema is not None:
            _refuse_unenforced(name, schema)
    return made


def runtime_choice(choice: object, names: Sequence[str]) -> str | None:
    """Return a choice in any provider's words as the runtime's; None stays None.

    Args:
        choice: "auto", "any", "required", True, "none", False, a tool's name, or a dict that says
            one of these as OpenAI or Anthropic do.
        names: Of the tools.

    Raises:
        InvalidPromptError: It is none of these, or there is no such tool.
    """
    if choice is None:
        return None
    said: object = choice
    if isinstance(choice, Mapping):
        function = choice.get("function")
        named = function.get("name") if isinstance(function, Mapping) else choice.get("name")
        said = choice.get("type") if named is None else named
    if isinstance(said, str) and said in names:
        return said
    if isinstance(said, (str, bool)) and said in CHOICES:
        return CHOICES[said]
    raise InvalidPromptError(
        f"tool_choice={shown(choice)} is not valid; it must be 'auto', 'any', 'required', True, "
        f"'none' or a tool's name ({', '.join(names):.200}).",
        parameter="tool_choice",
        value=choice,
    )


def _refuse_unenforced(name: str, schema: Mapping[str, Any]) -> None:
    try:
        JsonSchema(schema, strict=True)
    except InvalidConstraintError as error:
        raise InvalidConstraintError(
            f"The tool {name}: {error.message}",
            parameter=error.parameter,
            value=error.value,
            hint=error.hint,
        ) from error
