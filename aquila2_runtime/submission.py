"""Submission: one caller's request, checked and ready for an engine. It reads no answers itself."""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from aquila2_runtime.demands import TOOL_OPTIONS, Demands
from aquila2_runtime.engine.base import Engine, EngineRequest
from aquila2_runtime.errors import InvalidRequestError, InvalidSamplingParamsError
from aquila2_runtime.generation import Answer
from aquila2_runtime.keywords import reject_unknown
from aquila2_runtime.outputs import RequestOutput, Usage
from aquila2_runtime.prompts import Prompt, PromptMaker, check_room
from aquila2_runtime.sampling import SamplingParams
from aquila2_runtime.tool_parser import ToolCallParser

if TYPE_CHECKING:
    from aquila2_runtime.conversation import Message
    from aquila2_runtime.engine.handle import RequestHandle
    from aquila2_runtime.tokenizer import Aquila2Tokenizer

REQUEST_OPTIONS: Final = frozenset({"adapter", "fit", "cache_salt", "timeout"}) | TOOL_OPTIONS
MAX_SALT_CHARACTERS: Final = 256
MAX_TIMEOUT: Final = 1e9  # seconds, some thirty years; larger integers do not fit a float
# Of the context, kept for the answer when a conversation is shortened and max_tokens is not given.
_ANSWER_SHARE: Final = 4


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A prompt, what to do with it, and for how long.

    Attributes:
        prompt: Ids and notices.
        params: With token ids checked.
        max_tokens: Most new tokens.
        stop_ids: Every id that ends the answer.
        cache_key: Who may share cached prefixes with whom.
        timeout: Seconds; None for no limit.
        demands: What the answer must look like.
    """

    prompt: Prompt
    params: SamplingParams
    max_tokens: int
    stop_ids: frozenset[int]
    cache_key: tuple[str, ...]
    timeout: float | None
    demands: Demands

    @classmethod
    def of(
        cls,
        prompts: PromptMaker,
        *,
        messages: Sequence[Message] | None = None,
        text: str | None = None,
        token_ids: Sequence[int] = (),
        params: SamplingParams | None = None,
        request: Mapping[str, Any],
    ) -> Submission:
        """Check a request completely; afterwards only the engine can fail it.

        Raises:
            InvalidRequestError: Something about it is wrong.
        """
        reject_unknown(request, REQUEST_OPTIONS, "The request")
        checked = SamplingParams() if params is None else params
        if not isinstance(checked, SamplingParams):
            raise InvalidSamplingParamsError(
                f"params must be SamplingParams, not {type(checked).__name__}.",
                parameter="params",
            )
        tokenizer = prompts.tokenizer
        _check_ids(checked, tokenizer.n_vocab)
        timeout = _timeout(request.get("timeout"))
        cache_key = _cache_key(request.get("cache_salt"), request.get("adapter"))
        fit = request.get("fit")
        if messages is not None:
            share = max(prompts.max_model_len // _ANSWER_SHARE, checked.min_tokens)
            demands = Demands.of(tokenizer, checked, request)
            prompt = prompts.chat(messages, fit, checked.max_tokens or share, demands.shown)
        else:
            for option in sorted(TOOL_OPTIONS & request.keys()):
                _bad_option(option, request[option], "left out: only conversations have tools")
            demands = Demands.of(tokenizer, checked, {})
            if fit is not None:
                raise InvalidRequestError(
                    "fit shortens conversations; plain text and ids are never shortened.",
                    parameter="fit",
                    value=fit,
                )
            prompt = prompts.ids(token_ids) if text is None else prompts.text(text)
        room = check_room(len(prompt.token_ids), checked.max_tokens, prompts.max_model_len)
        if checked.min_tokens > room:
            raise InvalidSamplingParamsError(
                f"min_tokens={checked.min_tokens}, but the context has room for {room} tokens.",
                parameter="min_tokens",
                value=checked.min_tokens,
            )
        demands.check_room(room)
        prompt = dataclasses.replace(prompt, notices=(*prompt.notices, *demands.notices))
        stop_ids = frozenset(checked.stop_ids) if demands.grammar is None else frozenset()
        if not checked.ignore_eos:
            # A control id in an answer means that the turn is over, whichever it is.
            stop_ids |= {tokenizer.eos_token_id, *tokenizer.control_ids.values()}
        return cls(
            prompt=prompt,
            params=checked,
            max_tokens=room,
            stop_ids=stop_ids,
            cache_key=cache_key,
            timeout=timeout,
            demands=demands,
        )

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings that apply."""
        return self.params.stop_strings if self.demands.free_text else ()

    def answer(self, tokenizer: Aquila2Tokenizer, request: EngineRequest) -> Answer:
        """What one of the engine's requests becomes."""
        tools = self.demands.tools
        return Answer(
            tokenizer,
            request,
            self.prompt.notices,
            stop=self.stop_strings,
            calls=ToolCallParser([tool.name for tool in tools]) if tools else None,
        )

    def engine_requests(
        self, eos_token_id: int, bell: threading.Event | None, *, read_along: bool
    ) -> list[EngineRequest]:
        """One engine request per answer asked for; the i-th has seed + i."""
        params = self.params
        seed = secrets.randbits(63) if params.seed is None else params.seed
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        return [
            EngineRequest(
                prompt_token_ids=self.prompt.token_ids,
                params=params,
                max_tokens=self.max_tokens,
                seed=seed + index,
                stop_ids=self.stop_ids,
                eos_token_id=eos_token_id,
                cache_key=self.cache_key,
                deadline=deadline,
                # Stop strings are found by the reader, who must then see every token at once.
                quiet=not read_along and not self.stop_strings,
                bell=bell,
                constraint=self.demands.state(self.max_tokens),
            )
            for index in range(params.n)
        ]


@dataclasses.dataclass(frozen=True, slots=True)
class Running:
    """Submissions under way: for each the handles and answers it has.

    Attributes:
        groups: One group of pairs per submission.
        submissions: What was asked.
        bell: Rung when any of them has news.
    """

    groups: list[list[tuple[RequestHandle, Answer]]]
    submissions: Sequence[Submission]
    bell: threading.Event

    @property
    def pairs(self) -> list[tuple[RequestHandle, Answer]]:
        """All handles with their answers."""
        return [pair for group in self.groups for pair in group]

    def outputs(self, model: str) -> list[RequestOutput]:
        """The finished answers, one output per submission."""
        return [
            _output(model, submission, [answer for _, answer in group])
            for submission, group in zip(self.submissions, self.groups, strict=True)
        ]


def submit_all(
    engine: Engine,
    tokenizer: Aquila2Tokenizer,
    submissions: Sequence[Submission],
    *,
    together: bool,
) -> Running:
    """Submit everything before anything is read, so that it is computed together.

    Args:
        engine: Where to.
        tokenizer: Of the checkpoint.
        submissions: What.
        together: Whether one thread will wait for all of them by the bell.
    """
    bell = threading.Event()
    groups = [
        [
            (engine.submit(request), submission.answer(tokenizer, request))
            for request in submission.engine_requests(
                tokenizer.eos_token_id, bell if together else None, read_along=False
            )
        ]
        for submission in submissions
    ]
    return Running(groups, submissions, bell)


def submit_one(
    engine: Engine, tokenizer: Aquila2Tokenizer, submission: Submission
) -> tuple[RequestHandle, Answer]:
    """Submit a request that will be read along.

    Raises:
        InvalidSamplingParamsError: More than one answer is asked for.
    """
    if submission.params.n != 1:
        raise InvalidSamplingParamsError(
            f"n={submission.params.n}: a stream carries one answer.",
            parameter="n",
            value=submission.params.n,
            hint="Stream n requests, or read the n answers whole.",
        )
    (request,) = submission.engine_requests(tokenizer.eos_token_id, None, read_along=True)
    return engine.submit(request), submission.answer(tokenizer, request)


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


def _check_ids(params: SamplingParams, n_vocab: int) -> None:
    named = {"logit_bias": params.logit_bias or (), "stop_token_ids": params.stop_ids}
    for name, token_ids in named.items():
        for token_id in token_ids:
            if token_id >= n_vocab:
                raise InvalidSamplingParamsError(
                    f"{name} has id {token_id}, but ids go from 0 to {n_vocab - 1}.",
                    parameter=name,
                    value=token_id,
                )


def _timeout(value: object) -> float | None:
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0 < value < MAX_TIMEOUT
    ):
        _bad_option("timeout", value, "a positive number of seconds or None")
    return float(value)


def _cache_key(salt: object, adapter: object) -> tuple[str, ...]:
    if adapter is not None:
        _bad_option("adapter", adapter, "None: no adapters are loaded")
    if salt is None:
        return ()
    if not isinstance(salt, str) or not 0 < len(salt) <= MAX_SALT_CHARACTERS:
        _bad_option("cache_salt", salt, f"a string of 1 to {MAX_SALT_CHARACTERS} characters")
    return (salt,)


def _bad_option(name: str, value: object, allowed: str) -> NoReturn:
    raise InvalidRequestError(
        f"{name}={value!r:.60} is not valid; it must be {allowed}.", parameter=name, value=value
    )
