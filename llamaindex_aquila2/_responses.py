"""The runtime's outputs as LlamaIndex's responses: plain values only, fit for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatResponse,
    CompletionResponse,
    LogProb,
    ToolCallBlock,
)

from aquila2_runtime import Delta, FinishReason, RequestOutput, Timings, TokenLogprob, Usage
from llamaindex_aquila2._tool_calls import CallStream, answer_message, call_blocks


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer so far, the same for chat and completion, whole and streamed.

    Attributes:
        text: All text so far that is no tool call.
        delta: New text; None for a whole answer.
        raw: What ``response.raw`` holds. Token counters read ``raw["usage"]``.
        usage: Counts, empty before the end.
        logprobs: One list per new token when asked for.
        calls: The tool calls so far.
    """

    text: str
    delta: str | None
    raw: dict[str, Any]
    usage: dict[str, int]
    logprobs: list[list[LogProb]] | None
    calls: Sequence[ToolCallBlock] = ()

    def chat(self) -> ChatResponse:
        """As a chat response."""
        return ChatResponse(
            message=answer_message(self.text, self.calls),
            delta=self.delta,
            raw=self.raw,
            logprobs=self.logprobs,
            additional_kwargs=dict(self.usage),
        )

    def completion(self) -> CompletionResponse:
        """As a completion response."""
        return CompletionResponse(
            text=self.text,
            delta=self.delta,
            raw=self.raw,
            logprobs=self.logprobs,
            additional_kwargs=dict(self.usage),
        )


def timed_out(response: ChatResponse) -> bool:
    """Whether an answer's time limit ended it."""
    return (
        isinstance(response.raw, dict)
        and response.raw.get("finish_reason") == FinishReason.TIMEOUT.value
    )


def whole(output: RequestOutput, token_bytes: Callable[[int], bytes]) -> Answer:
    """Describe a whole answer.

    Args:
        output: The runtime's.
        token_bytes: An id's own bytes, which are half a character where its text shows U+FFFD.
    """
    usage = _usage(output.usage)
    raw = _raw(
        output.model,
        output.finish_reason,
        output.stop_reason,
        output.timings,
        [*output.notices, *(_left_out(bad.error) for bad in output.invalid_tool_calls)],
    )
    return Answer(
        text=output.content,
        delta=None,
        raw={**raw, "usage": dict(usage)},
        usage=usage,
        logprobs=_logprobs(output.logprobs, token_bytes),
        calls=call_blocks(output.tool_calls),
    )


class Stream:
    """A streamed answer: turns deltas into cumulative answers, the last one complete.

    Args:
        model: The model's name.
        token_bytes: An id's own bytes; see ``whole``.
    """

    def __init__(self, model: str, token_bytes: Callable[[int], bytes]) -> None:
        self._model = model
        self._token_bytes = token_bytes
        self._pieces: list[str] = []
        self._calls = CallStream()

    def add(self, delta: Delta) -> Answer:
        """Take one delta."""
        self._pieces.append(delta.content)
        self._calls.add(delta.tool_calls)
        # Joined once per delta: LlamaIndex wants the text so far in every chunk.
        self._pieces[:] = ["".join(self._pieces)]
        raw = _raw(
            self._model, delta.finish_reason, delta.stop_reason, delta.timings, delta.notices
        )
        usage: dict[str, int] = {}
        calls = self._calls.blocks(ended=delta.finish_reason is not None)
        if len(calls) < self._calls.begun:
            raw["notices"].append(_left_out("The call is incomplete."))
        if delta.usage is not None:
            usage = _usage(delta.usage)
            raw["usage"] = dict(usage)
        return Answer(
            text=self._pieces[0],
            delta=delta.content,
            raw=raw,
            usage=usage,
            logprobs=_logprobs(delta.logprobs, self._token_bytes),
            calls=calls,
        )


def _raw(
    model: str,
    finish_reason: FinishReason | None,
    stop_reason: str | int | None,
    timings: Timings | None,
    notices: Sequence[str],
) -> dict[str, Any]:
    return {
        "model": model,
        "finish_reason": None if finish_reason is None else finish_reason.value,
        "stop_reason": stop_reason,
        "timings": None if timings is None else dataclasses.asdict(timings),
        "notices": list(notices),
    }


def _left_out(error: str) -> str:
    return f"A tool call is left out: {error}"


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "cached_tokens": usage.cached_tokens,
    }


def _logprobs(
    entries: Sequence[TokenLogprob] | None, token_bytes: Callable[[int], bytes]
) -> list[list[LogProb]] | None:
    """One list per token: the chosen one first, then the likeliest others."""
    if entries is None:
        return None

    def entry(token_id: int, token: str, logprob: float) -> LogProb:
        # Not of the text: half a character has none, and a control token's is only its name.
        return LogProb(token=token, logprob=logprob, bytes=list(token_bytes(token_id)))

    return [
        [
            entry(one.token_id, one.token, one.logprob),
            *(entry(*likely) for likely in one.top if likely[0] != one.token_id),
        ]
        for one in entries
    ]
