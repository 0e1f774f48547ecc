"""Answer: one request's ids becoming text, and streaming it. It knows no messages."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING

from aquila2_runtime.begun import at_its_start
from aquila2_runtime.detokenizer import IncrementalDetokenizer, StopChecker
from aquila2_runtime.engine.base import Chunk, EngineRequest, Finished, IdLogprob, Started
from aquila2_runtime.errors import RequestTimeoutError
from aquila2_runtime.loop_end import aborting_with_loop
from aquila2_runtime.outputs import (
    CompletionOutput,
    Delta,
    FinishReason,
    Timings,
    TokenLogprob,
    Usage,
)
from aquila2_runtime.tool_parser import Parsed, ToolCallParser
from aquila2_runtime.tools import CALL_OPENING

if TYPE_CHECKING:
    from aquila2_runtime.engine.handle import RequestHandle
    from aquila2_runtime.tokenizer import Aquila2Tokenizer


class Answer:
    """Turns chunks of ids into deltas of text, ending at the first stop string.

    Whole, streamed and awaited answers are all read through this class, so they cannot disagree.

    Args:
        tokenizer: Of the checkpoint.
        request: What the engine was asked.
        notices: What was changed in the prompt on the caller's wish; told with the last delta.
        on_prefill: Called with the prompt tokens read so far, if the request is to tell.
        stop: The stop strings that apply; they end text, and never a call.
        drop_space: Whether a first space belongs to the template and not to the answer.
        calls: Finds calls in the text; None where there are no tools.
    """

    def __init__(
        self,
        tokenizer: Aquila2Tokenizer,
        request: EngineRequest,
        notices: tuple[str, ...] = (),
        on_prefill: Callable[[int], None] | None = None,
        *,
        stop: tuple[str, ...] = (),
        drop_space: bool = False,
        calls: ToolCallParser | None = None,
    ) -> None:
        params = request.params
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
        self.finish_reason: FinishReason | None = None
        self.stop_reason: str | int | None = None
        self._tokenizer = tokenizer
        self._request = request
        self._notices = notices
        self._on_prefill = on_prefill if request.tell_prefill else None
        self._detokenizer = IncrementalDetokenizer(tokenizer, drop_space=drop_space)
        self._stops = StopChecker(stop, include=params.include_stop_str_in_output)
        self._calls = calls
        self._called = False  # whether a call has begun, in which no stop string counts
        self._tail = ""  # of the text, where the opening of a call may begin
        self._pieces: list[str] = []
        self._told = 0  # ids that went out with a delta
        self._started: Started | None = None
        self._submitted = time.monotonic()
        self._total = 0.0

    @property
    def done(self) -> bool:
        """Whether the answer has ended."""
        return self.finish_reason is not None

    @property
    def usage(self) -> Usage:
        """Token counts so far."""
        return Usage(
            prompt_tokens=len(self._request.prompt_token_ids),
            completion_tokens=len(self.token_ids),
            cached_tokens=self._started.cached_tokens if self._started else 0,
        )

    @property
    def timings(self) -> Timings:
        """Seconds spent, once done."""
        if self._started is None:
            return Timings(queued=self._total, total=self._total)
        started = self._started
        return Timings(queued=started.queued, first_token=started.first_token, total=self._total)

    def feed(self, chunk: Chunk) -> Delta | None:
        """Take new ids; return what can be shown, or None while there is nothing to say."""
        if self._on_prefill is not None and chunk.prefilled is not None:
            self._on_prefill(chunk.prefilled)
        if chunk.started is not None:
            self._started = chunk.started
            if self._on_prefill is not None:
                self._on_prefill(len(self._request.prompt_token_ids))
        first_prompt_logprobs = None
        if chunk.prompt_logprobs is not None:
            described = (self._describe(entry) for entry in chunk.prompt_logprobs)
            self.prompt_logprobs = first_prompt_logprobs = (None, *described)
        pieces: list[str] = []
        for position, token_id in enumerate(chunk.token_ids):
            self.token_ids.append(token_id)
            if chunk.logprobs:
                self.logprobs.append(self._describe(chunk.logprobs[position]))
            if self._take(token_id, pieces):
                break
        if not self.done and chunk.finished is not None:
            self._finish(chunk.finished, pieces)
        text = "".join(pieces)
        if text:
            self._pieces.append(text)
        if not (text or self.done or first_prompt_logprobs):
            return None
        return self._delta(text, first_prompt_logprobs)

    def output(self, index: int = 0) -> CompletionOutput:
        """Return the whole answer, once done."""
        return CompletionOutput(
            index=index,
            text="".join(self._pieces),
            token_ids=tuple(self.token_ids),
            finish_reason=self.finish_reason or FinishReason.ABORT,
            stop_reason=self.stop_reason,
            logprobs=self._logprobs_from(0),
            content=None if self._calls is None else self._calls.content,
            tool_calls=() if self._calls is None else tuple(self._calls.calls),
            invalid_tool_calls=() if self._calls is None else tuple(self._calls.invalid),
        )

    @property
    def begun(self) -> bool:
        """Whether it has a token, or may still get one: it did not time out before the first."""
        return bool(self.token_ids) or self.finish_reason is not FinishReason.TIMEOUT

    def check_begun(self) -> None:
        """Refuse to be a lone answer of nothing; see ``RequestTimeoutError``.

        Raises:
            RequestTimeoutError: The time limit passed before the first token.
        """
        if not self.begun:
            raise RequestTimeoutError(
                "The time limit passed before the first token.",
                parameter="timeout",
                hint="Allow more time, or send fewer requests at once.",
            )

    def _take(self, token_id: int, pieces: list[str]) -> bool:
        """Add one id's text; True when it completes a stop string."""
        count, params = len(self.token_ids), self._request.params
        if token_id in self._request.stop_ids and count > params.min_tokens:
            return False  # it ends the answer and is no text; the engine says so in this chunk
        text = self._detokenizer.add(token_id)
        if self._calls is not None and not self._called:
            # In the text as written: stop strings hold back what the calls' parser gets to see.
            self._tail += text
            self._called = CALL_OPENING in self._tail
            self._tail = self._tail[1 - len(CALL_OPENING) :]
        shown, matched = self._stops.feed(
            text, allow_stop=count >= params.min_tokens and not self._called
        )
        pieces.append(shown)
        if matched is None:
            return False
        self._end(FinishReason.STOP, matched)
        return True

    def _finish(self, finished: Finished, pieces: list[str]) -> None:
        last = self._detokenizer.finish()
        shown, matched = self._stops.feed(last, allow_stop=not self._called)
        pieces.append(shown)
        if matched is not None:
            self._end(FinishReason.STOP, matched)
            return
        pieces.append(self._stops.flush())
        self._end(finished.reason, finished.stop_reason)

    def _end(self, reason: FinishReason, stop_reason: str | int | None) -> None:
        self.finish_reason, self.stop_reason = reason, stop_reason
        self._total = time.monotonic() - self._submitted

    def _delta(self, text: str, prompt_logprobs: tuple[TokenLogprob | None, ...] | None) -> Delta:
        told, self._told = self._told, len(self.token_ids)
        parsed = self._parse(text)
        return Delta(
            text=text,
            content=parsed.content,
            tool_calls=parsed.pieces,
            token_ids=tuple(self.token_ids[told:]),
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
            usage=self.usage if self.done else None,
            logprobs=self._logprobs_from(told),
            prompt_logprobs=prompt_logprobs,
            timings=self.timings if self.done else None,
            notices=self._notices if self.done else (),
        )

    def _parse(self, text: str) -> Parsed:
        """Split new text into content and pieces of calls."""
        calls = self._calls
        if calls is None:
            return Parsed(text)
        parsed = calls.feed(text)
        if not self.done:
            return parsed
        rest = calls.finish()
        return Parsed(parsed.content + rest.content, (*parsed.pieces, *rest.pieces))

    def _logprobs_from(self, start: int) -> tuple[TokenLogprob, ...] | None:
        if self._request.params.logprobs is None:
            return None
        return tuple(self.logprobs[start:])

    def _describe(self, entry: IdLogprob) -> TokenLogprob:
        text = self._tokenizer.token_text
        return TokenLogprob(
            token_id=entry.token_id,
            token=text(entry.token_id),
            logprob=entry.logprob,
            top=tuple((token_id, text(token_id), logprob) for token_id, logprob in entry.top),
        )


def read_stream(handle: RequestHandle, answer: Answer, use: object = None) -> Generator[Delta]:
    """Yield an answer's deltas; closing the generator aborts the request, also before it is read.

    Args:
        handle: The request.
        answer: Reads it.
        use: What keeps the model loaded, held as long as the generator has something to read: its
            reader may hold nothing else.

    Raises:
        RequestTimeoutError: The time limit passed before the first token.
    """
    return at_its_start(_read(handle, answer, use))


def _read(handle: RequestHandle, answer: Answer, _use: object) -> Generator[Delta | None]:
    try:
        yield None
        while not answer.done:
            delta = answer.feed(handle.read())
            if delta is not None:
                answer.check_begun()
                yield delta
    finally:
        handle.abort()


async def aread_stream(handle: RequestHandle, answer: Answer) -> AsyncGenerator[Delta]:
    """Yield an answer's deltas without blocking the event loop; closing or cancelling aborts."""
    try:
        with aborting_with_loop(handle):
            while not answer.done:
                delta = answer.feed(await handle.aread())
                if delta is not None:
                    answer.check_begun()
                    yield delta
    finally:
        handle.abort()
