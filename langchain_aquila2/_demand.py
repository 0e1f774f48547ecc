"""Demand: the keywords of a call that ask for tools or a form, as the runtime's. It sends none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from aquila2_runtime import InvalidPromptError, InvalidRequestError
from aquila2_runtime.openai_tools import runtime_choice, runtime_tools
from aquila2_runtime.shown import shown
from langchain_aquila2._calls import check_flag
from langchain_aquila2._formats import format_of
from langchain_aquila2._tools import openai_tools

KEYWORDS: Final = frozenset(
    {"tools", "tool_choice", "parallel_tool_calls", "response_format", "strict"}
)


class Demand(NamedTuple):
    """What a call asks for beside an answer.

    Attributes:
        sampling: Fields of ``SamplingParams``.
        options: Keywords of the runtime's ``chat``.
        instruction: A line for the prompt; empty for none.
    """

    sampling: dict[str, Any]
    options: dict[str, Any]
    instruction: str


def demand_of(keywords: Mapping[str, Any]) -> Demand:
    """Check what a call asks for.

    Args:
        keywords: The call's, of which only ``KEYWORDS`` and ``constraint`` are looked at.

    Raises:
        InvalidRequestError: Something about it is wrong.
    """
    strict = keywords.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise InvalidRequestError(
            f"strict={shown(strict)} is not valid; it must be True, False or None.",
            parameter="strict",
            value=strict,
        )
    sampling: dict[str, Any] = {}
    instruction = ""
    if keywords.get("response_format") is not None:
        if keywords.get("constraint") is not None:
            raise InvalidRequestError(
                "A request has a constraint or a response_format, not both.",
                parameter="response_format",
            )
        constraint, instruction = format_of(keywords["response_format"], strict)
        sampling["constraint"] = constraint
    options: dict[str, Any] = {}
    # Again in OpenAI's form, because a call may name functions and classes, too.
    tools = runtime_tools(openai_tools(keywords.get("tools") or [], strict))
    choice = runtime_choice(keywords.get("tool_choice"), [tool.name for tool in tools])
    if tools:
        options["tools"] = tools
    if choice is not None:
        options["tool_choice"] = choice
    if (parallel := _parallel(keywords)) is not None:
        options["parallel_tool_calls"] = parallel
    if choice not in (None, "auto", "none") and not tools:
        raise InvalidPromptError(
            f"tool_choice={shown(choice)}, but there are no tools.", parameter="tool_choice"
        )
    return Demand(sampling, options, instruction)


def _parallel(keywords: Mapping[str, Any]) -> Any:
    """Whether several calls are allowed: as OpenAI says it, or within the choice as Anthropic."""
    parallel, choice = keywords.get("parallel_tool_calls"), keywords.get("tool_choice")
    if parallel is None and isinstance(choice, Mapping):
        single = choice.get("disable_parallel_tool_use")
        return None if single is None else not check_flag("disable_parallel_tool_use", single)
    return parallel
