"""What generation gives back: text, ids, reasons, counts. It knows nothing of how it is made."""

from __future__ import annotations

import dataclasses
import enum

from aquila2_runtime.tool_parser import InvalidToolCall, ToolCallPiece
from aquila2_runtime.tools import ToolCall


class FinishReason(enum.StrEnum):
    """Why an answer ended."""

    STOP = "stop"  # end-of-text id, a stop id or a stop string
    LENGTH = "length"  # max_tokens or the context was reached
    ABORT = "abort"  # the caller aborted
    TIMEOUT = "timeout"  # the request's time limit passed; see RequestTimeoutError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one request.

    Attributes:
        prompt_tokens: Tokens of the rendered prompt.
        completion_tokens: Tokens generated, over all n answers; an end-of-text or stop id counts,
            tokens computed past a stop string do not.
        cached_tokens: Prompt tokens whose keys and values were found in the prefix cache.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """One token's log-probability (natural logarithm) and the likeliest ones at its place.

    Attributes:
        token_id: The token.
        token: Its text; bytes that are not text alone show as U+FFFD.
        logprob: Its log-probability under the model, before penalties and truncation.
        top: The likeliest tokens as (id, text, log-probability), most likely first.
    """

    token_id: int
    token: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds spent on one request, from submission.

    Attributes:
        queued: Until the first prefill step began.
        first_token: Until the first token; None when there was none.
        total: Until the end.
    """

    queued: float = 0.0
    first_token: float | None = None
    total: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of a streamed answer.

    The deltas' texts joined are the whole text. The last delta carries ``finish_reason`` and
    ``usage`` (and an often empty text).

    Attributes:
        text: New text; never half a character.
        content: What of the text is no tool call: all of it where no tools are given. An opening
            is held back until it is certain.
        tool_calls: What was written of tool calls since the delta before.
        token_ids: The ids that arrived since the delta before.
        finish_reason: None until the last delta.
        stop_reason: The stop string or stop id that ended the answer; None for end of text.
        usage: Counts, on the last delta.
        logprobs: One entry per id in ``token_ids`` when asked for.
        prompt_logprobs: On the first delta when asked for; None for the first prompt token.
        timings: On the last delta.
        notices: What the runtime changed in the prompt on the caller's wish, on the last delta.
    """

    text: str = ""
    content: str = ""
    tool_calls: tuple[ToolCallPiece, ...] = ()
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    usage: Usage | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
    timings: Timings | None = None
    notices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CompletionOutput:
    """One of the n answers to a prompt.

    Attributes:
        index: Its place among the n.
        text: The answer.
        token_ids: Its ids, an ending end-of-text or stop id included.
        finish_reason: Why it ended.
        stop_reason: The stop string or stop id that ended it; None for end of text.
        logprobs: One entry per id when asked for.
        content: The text before the tool calls; all of the text where no tools are given.
        tool_calls: The calls in the text, where tools are given.
        invalid_tool_calls: What begins like a call and is none, as in an aborted answer.
    """

    index: int = 0
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stop_reason: str | int | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    invalid_tool_calls: tuple[InvalidToolCall, ...] = ()

    def __post_init__(self) -> None:
        """Without tools all of the text is content."""
        if self.content is None:
            object.__setattr__(self, "content", self.text)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RequestOutput:
    """The whole answer to one request.

    Attributes:
        request_id: A unique name of the request.
        model: The model's name.
        prompt_token_ids: The exact ids the model saw.
        choices: The n answers.
        usage: Token counts.
        timings: Seconds spent.
        prompt_logprobs: When asked for; None for the first prompt token.
        notices: What the runtime changed in the prompt on the caller's wish (truncation, a
            neutralised role marker), one sentence each.
    """

    request_id: str
    model: str
    prompt_token_ids: tuple[int, ...]
    choices: tuple[CompletionOutput, ...]
    usage: Usage
    timings: Timings
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
    notices: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The first answer's text."""
        return self.choices[0].text

    @property
    def content(self) -> str:
        """The first answer's text before its tool calls."""
        content = self.choices[0].content
        return self.text if content is None else content

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The first answer's tool calls."""
        return self.choices[0].tool_calls

    @property
    def invalid_tool_calls(self) -> tuple[InvalidToolCall, ...]:
        """What in the first answer begins like a tool call and is none."""
        return self.choices[0].invalid_tool_calls

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The first answer's ids."""
        return self.choices[0].token_ids

    @property
    def finish_reason(self) -> FinishReason:
        """Why the first answer ended."""
        return self.choices[0].finish_reason

    @property
    def stop_reason(self) -> str | int | None:
        """The stop string or stop id that ended the first answer."""
        return self.choices[0].stop_reason

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...] | None:
        """The first answer's log-probabilities."""
        return self.choices[0].logprobs
