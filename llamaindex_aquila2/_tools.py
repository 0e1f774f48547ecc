"""Tools and tool choices in LlamaIndex's words as the runtime's. It calls no tool, knows no model.

They travel through the endpoints in OpenAI's form, which events, caches and tracers can read.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from llama_index.core.tools import BaseTool, ToolMetadata

from aquila2_runtime import InvalidPromptError, InvalidRequestError, Tool
from aquila2_runtime.openai_tools import CHOICES
from aquila2_runtime.shown import shown

_SAY_NOTHING: Final = frozenset({"type", "title", "description"})


def openai_tools(tools: object) -> list[dict[str, Any]]:
    """Return tools in OpenAI's form.

    Args:
        tools: LlamaIndex tools, or dicts in OpenAI's form.

    Raises:
        InvalidPromptError: They are no list, or one of them is no tool.
    """
    if isinstance(tools, (str, Mapping)) or not isinstance(tools, Sequence):
        _refuse(f"tools={shown(tools)} is not valid; it must be a list of tools.", tools)
    return [_openai_tool(tool, place) for place, tool in enumerate(tools)]


def runtime_tools(tools: object) -> list[Tool]:
    """Return tools as the runtime's.

    Args:
        tools: LlamaIndex tools, or dicts in OpenAI's form.

    Raises:
        InvalidPromptError: They are no list, or a tool's name or schema is malformed.
        InvalidConstraintError: A tool's schema is too large.
    """
    made = []
    for tool in openai_tools(tools):
        function = tool["function"]
        schema = function.get("parameters")
        # A tool without arguments may say {} or {"type": "object"}: then it takes none.
        if isinstance(schema, Mapping) and not any(
            value for name, value in schema.items() if name not in _SAY_NOTHING
        ):
            schema = None
        made.append(Tool(function.get("name"), function.get("description") or "", schema))
    return made


def runtime_choice(choice: object) -> str | None:
    """Return a choice in any provider's words as the runtime's; None stays None.

    Args:
        choice: "auto", "any", "required", True, "none", False, a tool's name, or a dict that names
            a tool as OpenAI's does.

    Raises:
        InvalidPromptError: It is none of these.
    """
    said = choice
    if isinstance(choice, Mapping):
        function = choice.get("function")
        named = function.get("name") if isinstance(function, Mapping) else choice.get("name")
        said = choice.get("type") if named is None else named
    if said is None:
        return None
    if isinstance(said, (str, bool)):
        # Any other word is a tool's name, which the runtime looks for among the tools.
        found = CHOICES.get(said, said)
        if isinstance(found, str):
            return found
    raise InvalidPromptError(
        f"tool_choice={shown(choice)} is not valid; it must be 'auto', 'any', 'required', True, "
        "'none' or a tool's name.",
        parameter="tool_choice",
        value=choice,
    )


def required_choice(choice: object, required: bool) -> str | None:
    """Return a choice that heeds ``tool_required``, LlamaIndex's word for "any".

    Raises:
        InvalidRequestError: A call is both required and forbidden.
    """
    found = runtime_choice(choice)
    if not required or found not in (None, "auto", "none"):
        return found
    if found == "none":
        raise InvalidRequestError(
            "tool_required=True cannot be used with tool_choice='none'.",
            parameter="tool_required",
            value=True,
        )
    return "any"


def _openai_tool(tool: object, place: int) -> dict[str, Any]:
    if isinstance(tool, BaseTool):
        about = tool.metadata
        function = {
            "name": about.name,
            "description": about.description or "",
            "parameters": _parameters(about),
        }
        return {"type": "function", "function": function}
    if isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping):
        return dict(tool)
    _refuse(
        f"tools[{place}] is of the type {type(tool).__name__}; it must be a LlamaIndex tool, or a "
        "dict in OpenAI's form.",
        tool,
    )


def _parameters(about: ToolMetadata) -> dict[str, Any]:
    """The schema of a tool's arguments; of one class, made once: pydantic takes 0.3 ms for it."""
    form = about.fn_schema
    if form is None or type(about) is not ToolMetadata:
        return about.get_parameters_dict()
    # A class that was built anew has another core schema.
    core = getattr(form, "__pydantic_core_schema__", None)
    kept = _made.get(form)
    if kept is None or kept[0] is not core:
        if len(_made) >= _MOST_MADE:
            _made.clear()
        kept = _made[form] = (core, about.get_parameters_dict())
    return copy.deepcopy(kept[1])


# Strong references: an agent's tools live as long as it does, and there are not many others.
_made: dict[type, tuple[object, dict[str, Any]]] = {}
_MOST_MADE: Final = 256


def _refuse(message: str, value: object) -> NoReturn:
    raise InvalidPromptError(message, parameter="tools", value=value)
