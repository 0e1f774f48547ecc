"""LangChain's tools in OpenAI's form, which binding and tracers want. It calls no tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.utils.function_calling import convert_to_openai_tool

from aquila2_runtime import InvalidPromptError
from aquila2_runtime.shown import one_line, shown


def openai_tools(tools: object, strict: bool | None = None) -> list[dict[str, Any]]:
    """Return tools of any kind LangChain knows in OpenAI's form, which tracers and caches can read.

    Args:
        tools: Functions, ``BaseTool``, pydantic or TypedDict classes, or dicts in the form of
            OpenAI (of either API), Anthropic, MCP or a JSON schema with a title.
        strict: Set on every tool unless None.

    Raises:
        InvalidPromptError: They are no list, or one of them is no tool for a text model.
    """
    if isinstance(tools, (str, Mapping)) or not isinstance(tools, Sequence):
        raise InvalidPromptError(
            f"tools={shown(tools)} is not valid; it must be a list.", parameter="tools", value=tools
        )
    made = []
    for place, tool in enumerate(tools):
        try:
            found = convert_to_openai_tool(_known_form(tool), strict=strict)
        except (TypeError, ValueError, KeyError) as error:
            raise InvalidPromptError(
                f"tools[{place}] cannot be used: {one_line(error)}",
                parameter="tools",
                value=tool,
            ) from error
        if not isinstance(found.get("function"), Mapping):
            raise InvalidPromptError(
                f"tools[{place}] is of the type {shown(found.get('type'))}, which a provider's "
                "server runs; there is none here.",
                parameter="tools",
                value=tool,
            )
        if strict is not None:
            # LangChain leaves a dict in OpenAI's form as it is.
            found = {**found, "function": {**found["function"], "strict": strict}}
        made.append(found)
    return made


def _known_form(tool: Any) -> Any:
    """A tool as LangChain reads it.

    What the tools of OpenAI's Responses API say is taken for a tool of their server's, and of
    MCP's the arguments are lost.
    """
    if not isinstance(tool, Mapping) or not isinstance(tool.get("name"), str):
        return tool
    if tool.get("type") == "function" and "function" not in tool:
        return {"type": "function", "function": {key: tool[key] for key in tool if key != "type"}}
    if isinstance(schema := tool.get("inputSchema"), Mapping) and "parameters" not in tool:
        about = tool.get("description") or ""
        return {"name": tool["name"], "description": about, "parameters": schema}
    return tool
