"""Engine: what every engine offers, ids in and ids out. It knows no text and no tensors."""

from __future__ import annotations

import abc
import dataclasses
import threading
from typing import TYPE_CHECKING

from aquila2_runtime.outputs import FinishReason
from aquila2_runtime.sampling import SamplingParams

if TYPE_CHECKING:
    from aquila2_runtime.companions import Companions
    from aquila2_runtime.engine.constraint import Form, TokenConstraint
    from aquila2_runtime.engine.handle import RequestHandle


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """One prompt to continue, fully resolved: nothing is left to defaults.

    Attributes:
        prompt_token_ids: Ids of the prompt, each in [0, vocabulary).
        params: What was asked for; ``n`` is ignored here (one request, one answer).
        max_tokens: Most new tokens; prompt and answer together fit the context.
        seed: Seed of this answer's noise.
        stop_ids: Ids that end the answer (end-of-text among them unless ignored).
        eos_token_id: The end-of-text id.
        cache_key: Who may share cached prefixes with whom (salt and adapter).
        adapter: Key of the adapter it is answered with; None for the base model.
        deadline: ``time.monotonic()`` at which the request ends with ``timeout``; None for never.
        read_along: Somebody reads the answer as it is made, so that a long step is a pause in it.
        quiet: Wake the reader only at the end.
        bell: Rung at every wake; lets one reader wait for many requests.
        tell_prefill: Tell the reader how far the prompt is read, where that takes several steps.
        constraint: Which ids may come next; the engine's own from submission on.
        form: The same for engines elsewhere; None where there is none.
        companions: Those it should begin with; None where it came alone.
    """

    prompt_token_ids: tuple[int, ...]
    params: SamplingParams
    max_tokens: int
    seed: int
    stop_ids: frozenset[int]
    eos_token_id: int
    cache_key: tuple[str, ...] = ()
    adapter: str | None = None
    deadline: float | None = None
    read_along: bool = True
    quiet: bool = False
    bell: threading.Event | None = dataclasses.field(default=None, compare=False)
    tell_prefill: bool = False
    constraint: TokenConstraint | None = dataclasses.field(default=None, compare=False)
    form: Form | None = dataclasses.field(default=None, compare=False)
    companions: Companions | None = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class IdLogprob:
    """One id's log-probability and the likeliest ids at its place, most likely first."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """What is known once the first id is there.

    Attributes:
        cached_tokens: Prompt tokens taken from the prefix cache.
        queued: Seconds from submission to admission.
        first_token: Seconds from submission to the first id.
    """

    cached_tokens: int
    queued: float
    first_token: float


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer.

    Attributes:
        reason: Why it ended.
        stop_reason: The stop id that ended it; None for end of text and for other reasons.
    """

    reason: FinishReason
    stop_reason: int | None = None


@dataclasses.dataclass(slots=True)
class Chunk:
    """What a reader gets at once: everything that arrived since it last looked.

    Attributes:
        token_ids: New ids, in order.
        logprobs: One entry per new id, when asked for.
        prompt_logprobs: One entry per prompt id but the first, once, when asked for.
        prefilled: Prompt tokens read so far, where the request asked and there is news.
        started: With the first id.
        finished: Set with the last chunk.
    """

    token_ids: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[IdLogprob] = dataclasses.field(default_factory=list)
    prompt_logprobs: list[IdLogprob] | None = None
    prefilled: int | None = None
    started: Started | None = None
    finished: Finished | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """Counts of an engine: of this moment (to ``blocks_cached``), then of its whole life.

    Attributes:
        running: Requests admitted to the device.
        waiting: Requests queued.
        blocks_in_use: KV blocks held by requests.
        blocks_total: KV blocks of the pool.
        blocks_cached: Free blocks that hold a reusable prefix.
        steps: Forward passes so far.
        tokens_computed: Prompt and answer tokens computed so far.
        decode_steps: Steps that decoded at least one request.
        decode_rows: Sum over those steps of the requests decoded together.
        cached_tokens: Prompt tokens served from the prefix cache so far.
        preemptions: Requests that gave their blocks back and were computed again.
        drafted_tokens: Tokens guessed by speculation so far.
        accepted_tokens: Guesses that were right; each saved a step of its request.
    """

    running: int = 0
    waiting: int = 0
    blocks_in_use: int = 0
    blocks_total: int = 0
    blocks_cached: int = 0
    steps: int = 0
    tokens_computed: int = 0
    decode_steps: int = 0
    decode_rows: int = 0
    cached_tokens: int = 0
    preemptions: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def mean_decode_batch(self) -> float:
        """Requests decoded together, on average over the steps that decoded any."""
        return self.decode_rows / self.decode_steps if self.decode_steps else 0.0


class Engine(abc.ABC):
    """Turns requests into handles that yield ids."""

    @abc.abstractmethod
    def submit(self, request: EngineRequest) -> RequestHandle:
        """Queue a request and return at once.

        Raises:
            EngineBusyError: The queue is full.
            EngineClosedError: The engine was closed, or belongs to another process.
            EngineDeadError: The engine failed for good.
        """

    @abc.abstractmethod
    def abort(self, request_id: int) -> None:
        """End a request within two steps; unknown or finished ids are ignored."""

    @abc.abstractmethod
    def stats(self) -> EngineStats:
        """Return the counts of this moment."""

    @abc.abstractmethod
    def close(self) -> None:
        """Stop the engine, end its requests with EngineClosedError, free memory. Idempotent."""

    @property
    @abc.abstractmethod
    def healthy(self) -> bool:
        """Whether requests are served."""
