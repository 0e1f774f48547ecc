"""The runtime's answers as LangChain's messages and metadata. It knows no model and no prompt."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import (
    ToolCallChunk,
    invalid_tool_call,
    tool_call,
    tool_call_chunk,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from aquila2_runtime import FinishReason, Timings, TokenLogprob, Usage
from aquila2_runtime.openai_logprobs import openai_logprobs as in_openais_shape

if TYPE_CHECKING:
    from aquila2_runtime.info import RuntimeInfo
    from aquila2_runtime.outputs import CompletionOutput, Delta, RequestOutput
    from aquila2_runtime.runtime import Aquila2Runtime


def chat_result(runtime: Aquila2Runtime, output: RequestOutput) -> ChatResult:
    """Return whole answers of a runtime."""
    info, generations = runtime.info, []
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
        told: dict[str, Any] = {"finish_reason": reason}
        if choice.logprobs is not None:
            told["logprobs"] = openai_logprobs(choice.logprobs, runtime.tokenizer.token_bytes)
            metadata["logprobs"] = told["logprobs"]
        # The counts are of all answers together, so one of them carries them.
        usage = usage_metadata(output.usage, info) if choice.index == 0 else None
        generations.append(
            ChatGeneration(message=_message(choice, metadata, usage), generation_info=told)
        )
    llm_output = {"model_name": output.model, "token_usage": token_usage([output.usage])}
    return ChatResult(generations=generations, llm_output=llm_output)


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
        runtime: Whose answer it is.
        stream_usage: Whether the last chunk carries the counts.
    """

    def __init__(self, runtime: Aquila2Runtime, *, stream_usage: bool = True) -> None:
        self._info = runtime.info
        self._token_bytes = runtime.tokenizer.token_bytes
        self._stream_usage = stream_usage
        self._index: int | None = None  # of the call begun last
        self._arguments: list[str] = []  # of that call, as far as they are written

    def of(self, delta: Delta) -> Iterator[ChatGenerationChunk]:
        """Yield one delta's chunks; none while a call is written around its arguments.

        A delta holds all that arrived since the one before. LangChain takes pieces of calls for
        pieces only in a chunk that has no text and is not the last, so each of the three is a
        chunk of its own.
        """
        metadata: dict[str, Any] = {}
        if delta.logprobs is not None:
            # The first chunk has those of all the delta's tokens: added up, they are told once.
            metadata["logprobs"] = openai_logprobs(delta.logprobs, self._token_bytes)
        pieces = self._pieces(delta)
        if delta.content or (metadata and not pieces and delta.finish_reason is None):
            message = AIMessageChunk(content=delta.content, response_metadata=metadata)
            yield ChatGenerationChunk(message=message)
            metadata = {}
        if pieces:
            message = AIMessageChunk(
                content="", tool_call_chunks=pieces, response_metadata=metadata
            )
            yield ChatGenerationChunk(message=message)
            metadata = {}
        if delta.finish_reason is not None:
            yield self._last(delta, delta.finish_reason, metadata)

    def _pieces(self, delta: Delta) -> list[ToolCallChunk]:
        pieces = []
        for piece in delta.tool_calls:
            if piece.name is not None:
                self._arguments = []
            self._arguments.append(piece.arguments)
            named = None if piece.name is None else new_id()
            pieces.append(_piece(piece.index, piece.arguments, piece.name, named))
            self._index = piece.index
        if delta.finish_reason not in (None, FinishReason.STOP) and self._index is not None:
            # In one piece with the others: LangChain adds up chunks, not what is within one.
            last = pieces.pop() if pieces else _piece(self._index, "")
            spoiling = _spoiling("".join(self._arguments))
            pieces.append({**last, "args": f"{last['args']}{spoiling}"})
        return [piece for piece in pieces if piece["name"] or piece["args"]]

    def _last(
        self, delta: Delta, finished: FinishReason, metadata: dict[str, Any]
    ) -> ChatGenerationChunk:
        reason = finish_word(finished, called=self._index is not None)
        ended = ending(
            model=self._info.model,
            template=self._info.template,
            reason=reason,
            stop_reason=delta.stop_reason,
            timings=delta.timings,
            notices=delta.notices,
        )
        counted = delta.usage if self._stream_usage else None
        message = AIMessageChunk(
            content="",
            response_metadata={**metadata, **ended},
            usage_metadata=None if counted is None else usage_metadata(counted, self._info),
            chunk_position="last",
        )
        return ChatGenerationChunk(message=message, generation_info={"finish_reason": reason})


def _piece(
    index: int, arguments: str, name: str | None = None, call_id: str | None = None
) -> ToolCallChunk:
    # LangChain numbers blocks, not calls: content, which stands before all calls, is block 0.
    return tool_call_chunk(name=name, args=arguments, id=call_id, index=index + 1)


def _spoiling(arguments: str) -> str:
    """Return what makes a call that was cut short an invalid one; empty for a whole one.

    LangChain closes what is open in streamed arguments and takes them for whole, and an agent
    would run them. Only a bracket that closes nothing keeps it from that.
    """
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(arguments)
        return ""
    quoted = escaped = False
    closing: list[str] = []
    for character in arguments:
        if quoted:
            quoted = escaped or character != '"'
            escaped = not escaped and character == "\\"
        elif character == '"':
            quoted = True
        elif character in "{[":
            closing.append("}" if character == "{" else "]")
        elif character in "}]" and closing:
            closing.pop()
    open_string = ("\\" if escaped else "") + '"' if quoted else ""
    return open_string + ("}" if closing and closing[-1] == "]" else "]")


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


def token_usage(usages: Iterable[Usage]) -> dict[str, int]:
    """Return sums of counts in the words of OpenAI's ``llm_output``."""
    prompt = answer = 0
    for usage in usages:
        prompt += usage.prompt_tokens
        answer += usage.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
    }


def joined_output(outputs: Iterable[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Return the ``llm_output`` of several answers: their model and the sums of their counts."""
    joined: dict[str, Any] = {}
    for output in outputs:
        for name, value in (output or {}).items():
            if name == "token_usage":
                sums = joined.setdefault(name, dict.fromkeys(value, 0))
                joined[name] = {key: sums[key] + value[key] for key in sums}
            else:
                joined[name] = value
    return joined


def openai_logprobs(
    logprobs: Sequence[TokenLogprob], token_bytes: Callable[[int], bytes]
) -> dict[str, Any]:
    """Return log-probabilities in the shape of OpenAI's chat completions.

    Args:
        logprobs: Of an answer or a piece of one.
        token_bytes: An id's own bytes. A control token has none; OpenAI says null of those.
    """
    return in_openais_shape(logprobs, lambda token_id: list(token_bytes(token_id)) or None)
