"""Batch: many submissions on one engine, a bounded number at a time. It makes no prompts."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from aquila2_runtime.errors import (
    EngineBusyError,
    InvalidPromptError,
    InvalidSamplingParamsError,
)
from aquila2_runtime.loop_end import aborting_with_loop
from aquila2_runtime.outputs import RequestOutput, Usage
from aquila2_runtime.reading import tellers
from aquila2_runtime.sampling import SamplingParams

if TYPE_CHECKING:
    from aquila2_runtime.engine.base import Engine, EngineRequest
    from aquila2_runtime.engine.handle import RequestHandle
    from aquila2_runtime.generation import Answer
    from aquila2_runtime.submission import Submission
    from aquila2_runtime.tokenizer import Aquila2Tokenizer

    Entry = tuple[EngineRequest, Answer]

ParamsOrMany = SamplingParams | Sequence[SamplingParams] | None

# Requests a batch has in the engine at once: as many as a device may be set to compute together,
# and a quarter of what may wait, so that a batch of any length leaves others room.
MAX_IN_FLIGHT: Final = 1_024
# Between two tries of a batch that has begun, when others have filled the engine's queue.
_PAUSE_SECONDS: Final = 0.02


def one_each(params: ParamsOrMany, prompts: Sequence[Any]) -> list[SamplingParams | None]:
    """One entry per prompt, from one for all or one for each."""
    if not isinstance(prompts, (list, tuple)):
        raise InvalidPromptError(
            f"A batch is a list of prompts or conversations, not {type(prompts).__name__}.",
            parameter="prompts",
        )
    count = len(prompts)
    if params is None or isinstance(params, SamplingParams):
        return [params] * count
    if not isinstance(params, (list, tuple)):
        raise InvalidSamplingParamsError(
            f"params must be SamplingParams or a list of them, not {type(params).__name__}.",
            parameter="params",
        )
    if len(params) != count:
        raise InvalidSamplingParamsError(
            f"{len(params)} params for {count} prompts; give one for all or one for each.",
            parameter="params",
            value=len(params),
        )
    return list(params)


class Batch:
    """Submissions to be computed together, each answer read to its own end.

    Up to ``MAX_IN_FLIGHT`` requests are in the engine; the next one goes in when one of them ends.
    Time limits count from the batch's beginning, for those that go in later too.

    Args:
        engine: Where to.
        tokenizer: Of the checkpoint.
        submissions: What, in the order of the outputs.
        model: The model's name, for the outputs.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Aquila2Tokenizer,
        submissions: Sequence[Submission],
        model: str,
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._submissions = submissions
        self._model = model
        self._answers: list[list[Answer]] = [[] for _ in submissions]
        lengths = [len(one.prompt.token_ids) for one in submissions]
        # Requests of one call are asked with the same options.
        self._tellers = tellers(submissions[0].progress if submissions else None, lengths)
        self._accepted = False
        self._held: Entry | None = None  # taken from the queue and not accepted yet

    def run(self) -> list[RequestOutput]:
        """Compute everything; the calling thread waits.

        Raises:
            EngineBusyError: The queue was full before any of it was accepted.
            EngineError: One of the requests failed; the others are aborted.
        """
        bell = threading.Event()
        queue = self._requests(bell)
        flying: list[tuple[RequestHandle, Answer]] = []
        try:
            self._feed(queue, flying)
            while flying:
                bell.wait()
                bell.clear()
                for handle, answer in flying:
                    chunk = handle.poll()
                    if chunk is not None:
                        answer.feed(chunk)
                        if answer.done:
                            handle.abort()
                flying[:] = [pair for pair in flying if not pair[1].done]
                self._feed(queue, flying)
        finally:
            for handle, _ in flying:
                handle.abort()
        return self._outputs()

    async def arun(self) -> list[RequestOutput]:
        """Compute everything without blocking the event loop; cancelling aborts it all."""
        queue = self._requests(None)
        count = sum(submission.params.n for submission in self._submissions)
        if count == 1:
            await self._work(queue)  # no other that its failure could cancel
            return self._outputs()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(count, MAX_IN_FLIGHT)):
                    group.create_task(self._work(queue))
        except* Exception as failures:
            # One failure is the caller's, the caller's own ``progress`` among what can fail; the
            # group has cancelled the others.
            raise _first(failures) from None
        return self._outputs()

    def run_one(self) -> RequestOutput:
        """Compute a batch of one, as an answer of its own.

        Raises:
            RequestTimeoutError: The time limit passed before any of its answers had a token.
            EngineError: It could not be finished.
        """
        return self._alone(self.run())

    async def arun_one(self) -> RequestOutput:
        """The same without blocking the event loop."""
        return self._alone(await self.arun())

    def _alone(self, outputs: Sequence[RequestOutput]) -> RequestOutput:
        answers = self._answers[0]
        if not any(answer.begun for answer in answers):
            answers[0].check_begun()
        return outputs[0]

    def _requests(self, bell: threading.Event | None) -> Iterator[Entry]:
        """Every request with its answer, made when it is its turn."""
        began, eos = time.monotonic(), self._tokenizer.eos_token_id
        for submission, answers, teller in zip(
            self._submissions, self._answers, self._tellers, strict=True
        ):
            for request in submission.engine_requests(
                eos, began=began, read_along=False, bell=bell
            ):
                answers.append(submission.answer(self._tokenizer, request, teller))
                yield request, answers[-1]

    def _feed(self, queue: Iterator[Entry], flying: list[tuple[RequestHandle, Answer]]) -> None:
        """Fill up to the bound, or until the queue is empty."""
        while len(flying) < MAX_IN_FLIGHT:
            entry = self._held or next(queue, None)
            if entry is None:
                return
            handle = self._submit(entry[0])
            self._held = entry if handle is None else None
            if handle is not None:
                flying.append((handle, entry[1]))
            elif flying:
                return  # the next end of one of these tries again
            else:
                time.sleep(_PAUSE_SECONDS)

    async def _work(self, queue: Iterator[Entry]) -> None:
        """Take one request after another from the queue that all workers share."""
        for request, answer in queue:
            while (handle := self._submit(request)) is None:
                await asyncio.sleep(_PAUSE_SECONDS)
            try:
                with aborting_with_loop(handle):
                    while not answer.done:
                        answer.feed(await handle.aread())
            finally:
                handle.abort()

    def _submit(self, request: EngineRequest) -> RequestHandle | None:
        """Submit; None while others fill the queue and this batch has answers to lose."""
        try:
            handle = self._engine.submit(request)
        except EngineBusyError:
            if not self._accepted:
                raise
            return None
        self._accepted = True
        return handle

    def _outputs(self) -> list[RequestOutput]:
        return [
            _output(self._model, submission, answers)
            for submission, answers in zip(self._submissions, self._answers, strict=True)
        ]


def _output(model: str, submission: Submission, answers: Sequence[Answer]) -> RequestOutput:
    first = answers[0]
    return RequestOutput(
        request_id=uuid.uuid4().hex,
        model=model,
        prompt_token_ids=submission.prompt.token_ids,
        choices=tuple(answer.output(index) for index, answer in enumerate(answers)),
        usage=Usage(
            prompt_tokens=first.usage.prompt_tokens,
            completion_tokens=sum(answer.usage.completion_tokens for answer in answers),
            cached_tokens=first.usage.cached_tokens,
        ),
        timings=first.timings,
        prompt_logprobs=first.prompt_logprobs,
        notices=submission.prompt.notices,
    )


def _first(failures: BaseExceptionGroup[Exception]) -> BaseException:
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
