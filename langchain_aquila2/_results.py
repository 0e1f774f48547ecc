"""The runtime's answers as LangChain's messages and metadata. It knows no model and no prompt."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from aquila2_runtime import FinishReason, Timings, TokenLogprob, Usage

if TYPE_CHECKING:
    from aquila2_runtime.info import RuntimeInfo
    from aquila2_runtime.outputs import CompletionOutput, Delta, RequestOutput


def chat_result(info: RuntimeInfo, output: RequestOutput) -> ChatResult:
    """Return whole answers."""
    generations = []
    for choice in output.choices:
        reason = finish_word(choice.finish_reason, called=bool(choice.tool_calls))
        metadata = ending(
            model=output.model,
            template=info.template,
            reason=reason,
            stop_reason=choice.stop_reason,
            timings=output.timings,
            notices=output.notices,
        )
        if choice.logprobs is not None:
            metadata["logprobs"] = openai_logprobs(choice.logprobs)
        # The counts are of all answers together, so one of them carries them.
        usage = usage_metadata(output.usage, info) if choice.index == 0 else None
        generations.append(
            ChatGeneration(
                message=_message(choice, metadata, usage), generation_info={"finish_reason": reason}
            )
        )
    return ChatResult(generations=generations, llm_output={"model_name": output.model})


def _message(
    choice: CompletionOutput, metadata: dict[str, Any], usage: UsageMetadata | None
) -> AIMessage:
    return AIMessage(
        content=choice.text if choice.content is None else choice.content,
        tool_calls=[
            tool_call(name=call.name, args=dict(call.arguments), id=new_id())
            for call in choice.tool_calls
        ],
        invalid_tool_calls=[
            invalid_tool_call(name=bad.name, args=bad.arguments, id=new_id(), error=bad.error)
            for bad in choice.invalid_tool_calls
        ],
        response_metadata=metadata,
        usage_metadata=usage,
    )


class Chunks:
    """Turns the deltas of one answer into chunks: a call's name and id once, then its arguments.

    Args:
        info: Of the runtime.
        stream_usage: Whether the last chunk carries the counts.
    """

    def __init__(self, info: RuntimeInfo, *, stream_usage: bool = True) -> None:
        self._info = info
        self._stream_usage = stream_usage
        self._called = False

    def of(self, delta: Delta) -> ChatGenerationChunk | None:
        """Return one delta's chunk; None while a call is written around its arguments."""
        if not (delta.content or delta.tool_calls or delta.logprobs or delta.finish_reason):
            return None
        self._called = self._called or bool(delta.tool_calls)
        message = AIMessageChunk(
            content=delta.content,
            tool_call_chunks=[
                tool_call_chunk(
                    name=piece.name,
                    args=piece.arguments,
                    id=None if piece.name is None else new_id(),
                    index=piece.index,
                )
                for piece in delta.tool_calls
            ],
        )
        if delta.logprobs is not None:
            message.response_metadata["logprobs"] = openai_logprobs(delta.logprobs)
        if delta.finish_reason is None:
            return ChatGenerationChunk(message=message)
        reason = finish_word(delta.finish_reason, called=self._called)
        message.response_metadata |= ending(
            model=self._info.model,
            template=self._info.template,
            reason=reason,
            stop_reason=delta.stop_reason,
            timings=delta.timings,
            notices=delta.notices,
        )
        if delta.usage is not None and self._stream_usage:
            message.usage_metadata = usage_metadata(delta.usage, self._info)
        message.chunk_position = "last"
        return ChatGenerationChunk(message=message, generation_info={"finish_reason": reason})


def new_id() -> str:
    """Return an id for a call; the model writes none."""
    return f"call_{uuid.uuid4().hex}"


def finish_word(reason: FinishReason, *, called: bool) -> str:
    """Return why an answer ended, in LangChain's words.

    An answer that ends with calls ended for them; one that was closed at its limit says so.
    """
    return "tool_calls" if called and reason is FinishReason.STOP else reason.value


def usage_metadata(usage: Usage, info: RuntimeInfo) -> UsageMetadata:
    """Return token counts in LangChain's words.

    ``cache_read`` is what was found in the prefix cache; ``cache_creation`` is what the prompt
    added to it, which keeps whole blocks.
    """
    whole = usage.prompt_tokens // info.block_size * info.block_size if info.prefix_cache else 0
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        input_token_details=InputTokenDetails(
            cache_read=usage.cached_tokens, cache_creation=max(whole - usage.cached_tokens, 0)
        ),
    )


def ending(
    *,
    model: str,
    template: str | None,
    reason: str,
    stop_reason: str | int | None,
    timings: Timings | None,
    notices: Sequence[str],
) -> dict[str, Any]:
    """Return the response metadata of a finished answer."""
    return {
        "model_name": model,
        "model_provider": "aquila2",
        "finish_reason": reason,
        "stop_reason": stop_reason,
        "template": template,
        "timings": None if timings is None else dataclasses.asdict(timings),
        "notices": list(notices),
    }


def openai_logprobs(logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Return log-probabilities in the shape of OpenAI's chat completions."""
    return {
        "content": [
            {
                "token": entry.token,
                "logprob": entry.logprob,
                "bytes": list(entry.token.encode("utf-8", "replace")),
                "top_logprobs": [
                    {
                        "token": text,
                        "logprob": logprob,
                        "bytes": list(text.encode("utf-8", "replace")),
                    }
                    for _, text, logprob in entry.top
                ],
            }
            for entry in logprobs
        ]
    }
