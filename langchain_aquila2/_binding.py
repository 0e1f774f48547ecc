"""Binding: tools and schemas bound to a chat model. It computes nothing and checks everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable

from aquila2_runtime import InvalidRequestError
from langchain_aquila2._demand import demand_of
from langchain_aquila2._structured import plan, unless_called, with_raw
from langchain_aquila2._tools import openai_tools
from langchain_aquila2.errors import translating


class Binding(BaseChatModel):
    """A chat model whose calls take the keywords of ``demand_of``."""

    def bind_tools(
        self,
        tools: Sequence[Any],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,
        response_format: Any = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Let answers call tools.

        The prompt shows the tools as signatures, in one form for every template, and every call is
        held to its tool's schema while it is written.

        Args:
            tools: Functions, ``BaseTool``, pydantic or TypedDict classes, or dicts in the form of
                OpenAI (of either API), Anthropic, MCP or a JSON schema with a title.
            tool_choice: "auto" (what None means), "any", "required" or True (at least one call),
                "none" (no call, and the prompt shows no tools), a tool's name (one call of it), or
                a dict that says one of these.
            parallel_tool_calls: False allows one call at most.
            strict: True refuses tools whose schema has a keyword that cannot be enforced.
                Otherwise it is left out, and a notice of the answer names it.
            response_format: What an answer is where it is no call; see ``with_structured_output``.
            **kwargs: Any other keyword of a call.

        Raises:
            InvalidRequestError: A tool, the choice or the format is wrong.
        """
        bound = dict(kwargs)
        with translating():
            bound["tools"] = openai_tools(tools, strict)
            given = {
                "tool_choice": tool_choice,
                "parallel_tool_calls": parallel_tool_calls,
                "response_format": response_format,
                "strict": strict,
            }
            bound |= {name: value for name, value in given.items() if value is not None}
            demand_of(bound)
        return self.bind(**bound)

    def with_structured_output(
        self,
        schema: Any = None,
        *,
        method: Literal["json_schema", "function_calling", "json_mode"] = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Answer with an object of a schema.

        Answers follow the schema token by token and are closed in time, so they always parse, also
        at ``max_tokens``; ``finish_reason`` is "length" then (see ``include_raw``).

        Args:
            schema: A pydantic class (the answer is an instance), a TypedDict class or a JSON
                schema (the answer is a dict). Only json_mode takes None: any object.
            method: "json_schema" adds the line ``Answer in JSON: {type}`` to the last message of
                the user. "json_mode" adds nothing: the prompt is to say what it wants.
                "function_calling" shows the schema as a tool, which is called once.
            include_raw: Answer ``{"raw": message, "parsed": object, "parsing_error": None}``.
            strict: False leaves out keywords of the schema that cannot be enforced, and a notice
                names them; otherwise they are refused.
            **kwargs: Any other keyword of a call; with ``tools``, which function_calling does not
                take, an answer may call one of them instead, and then there is no object.

        Raises:
            InvalidRequestError: The method, the schema or a keyword is wrong.
        """
        with translating():
            binding, parser = plan(schema, method, strict)
            free = () if method == "function_calling" else ("tools",)
            for name in kwargs.keys() & binding.keys() - {*free}:
                raise InvalidRequestError(
                    f"{name} is set by with_structured_output(method={method!r}) itself.",
                    parameter=name,
                    hint="Take it out.",
                )
        if kwargs.get("tools"):
            parser = unless_called(parser)
        bound = self.bind_tools(**{**binding, **kwargs})
        return with_raw(bound, parser) if include_raw else bound | parser
