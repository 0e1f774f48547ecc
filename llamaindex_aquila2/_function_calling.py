"""FunctionCalling: LlamaIndex's tool methods over its chat endpoints. It knows no runtime.

Calls are held to their tools' schemas while they are written, whatever the weights are; whether
LlamaIndex takes the model for one that calls functions is a field.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools import BaseTool, ToolOutput
from llama_index.core.tools.calling import acall_tool_with_selection, call_tool_with_selection

from aquila2_runtime import RequestTimeoutError
from llamaindex_aquila2._responses import timed_out
from llamaindex_aquila2._spec import Specified
from llamaindex_aquila2._tool_calls import selections
from llamaindex_aquila2._tools import openai_tools, required_choice


class FunctionCalling(Specified):
    """What LlamaIndex asks of a model that calls functions."""

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return what ``chat`` takes; the history is copied, not added to."""
        messages = list(chat_history or ())
        if isinstance(user_msg, str):
            messages.append(ChatMessage(role=MessageRole.USER, content=user_msg))
        elif user_msg is not None:
            messages.append(user_msg)
        prepared = {"messages": messages, "tools": openai_tools(tools), **kwargs}
        choice = required_choice(tool_choice, tool_required)
        if choice is not None:
            prepared["tool_choice"] = choice
        return {**prepared, "parallel_tool_calls": allow_parallel_tool_calls}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return a response's tool calls, in a stream those written so far.

        Args:
            response: Of any chat endpoint.
            error_on_no_tool_call: Whether none is an error.
            **kwargs: Not used.

        Raises:
            ValueError: There is none.
            RequestTimeoutError: There is none because the answer's time limit passed.
        """
        found = selections(response.message)
        if not found and error_on_no_tool_call:
            if timed_out(response):
                raise RequestTimeoutError(
                    "The time limit passed before a tool call was complete.",
                    parameter="timeout",
                    hint="Allow more time, or send fewer requests at once.",
                )
            text = response.message.content or ""
            msg = f"The answer calls no tool; it reads: {text:.200}"
            raise ValueError(msg)
        return found

    def predict_and_call(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        error_on_no_tool_call: bool = True,
        error_on_tool_error: bool = False,
        **kwargs: Any,
    ) -> AgentChatResponse:
        """Let the model call tools, and call them.

        Unlike LlamaIndex's own it does so also for a model that is not said to call functions.

        Args:
            tools: What may be called.
            user_msg: The question.
            chat_history: What was said before; not changed.
            verbose: Whether LlamaIndex prints the calls.
            allow_parallel_tool_calls: Whether several tools may be called.
            error_on_no_tool_call: Whether a tool must be called; with ``tool_required=False``
                the model may answer in text, which is an error then.
            error_on_tool_error: Whether a tool that fails is an error, or a result.
            **kwargs: Keywords of ``chat_with_tools``.

        Raises:
            ValueError: No tool was called, or one failed.
            RequestTimeoutError: The time limit passed before a call was complete.
        """
        kwargs.setdefault("tool_required", error_on_no_tool_call)
        response = self.chat_with_tools(
            tools,
            user_msg=user_msg,
            chat_history=chat_history,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
            **kwargs,
        )
        calls = self.get_tool_calls_from_response(response, error_on_no_tool_call)
        outputs = [call_tool_with_selection(call, tools, verbose) for call in calls]
        return _told(response, outputs, error_on_tool_error)

    async def apredict_and_call(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        error_on_no_tool_call: bool = True,
        error_on_tool_error: bool = False,
        **kwargs: Any,
    ) -> AgentChatResponse:
        """Let the model call tools, and call them at once; see ``predict_and_call``."""
        kwargs.setdefault("tool_required", error_on_no_tool_call)
        response = await self.achat_with_tools(
            tools,
            user_msg=user_msg,
            chat_history=chat_history,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
            **kwargs,
        )
        calls = self.get_tool_calls_from_response(response, error_on_no_tool_call)
        outputs = await asyncio.gather(
            *(acall_tool_with_selection(call, tools, verbose) for call in calls)
        )
        return _told(response, outputs, error_on_tool_error)


def _told(
    response: ChatResponse, outputs: Sequence[ToolOutput], error_on_tool_error: bool
) -> AgentChatResponse:
    """What came of the calls; the answer itself where there were none."""
    text = "\n\n".join(output.content for output in outputs)
    if error_on_tool_error and any(output.is_error for output in outputs):
        raise ValueError(text)
    if not outputs:
        text = response.message.content or ""
    return AgentChatResponse(response=text, sources=list(outputs))
