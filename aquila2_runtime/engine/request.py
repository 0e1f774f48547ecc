"""Request: the state of one request inside the engine. It holds state only; policy is elsewhere."""

from __future__ import annotations

import enum
import time
from typing import TYPE_CHECKING

from aquila2_runtime.engine.base import EngineRequest, Finished, IdLogprob, Started
from aquila2_runtime.engine.drafts import Drafter
from aquila2_runtime.outputs import FinishReason

if TYPE_CHECKING:
    from aquila2_runtime.engine.handle import Mailbox
    from aquila2_runtime.engine.sampler import SampleRow


class Status(enum.Enum):
    """Where a request stands."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


class Request:
    """One request: its ids, how far they are computed, its blocks and its reader.

    Attributes:
        token_ids: Prompt ids and the answer so far.
        num_computed: How many of them have keys and values in ``blocks``.
        blocks: Its KV blocks, in order.
        nodes: Prefix-index nodes of its leading full blocks, in order.
        num_cached: Prompt tokens found in the prefix cache at its first admission.
        sample_row: The sampler's state; made by the runner at first use.
        drafter: Guesses its next ids where speculation is on.
        awaited: While it waits for another request to compute its prefix: which, and how far.
    """

    def __init__(self, request_id: int, spec: EngineRequest, mailbox: Mailbox) -> None:
        self.request_id = request_id
        self.spec = spec
        self.mailbox = mailbox
        self.status = Status.WAITING
        self.token_ids: list[int] = list(spec.prompt_token_ids)
        self.num_computed = 0
        self.blocks: list[int] = []
        self.nodes: list[int] = []
        self.num_cached: int | None = None
        self.sample_row: SampleRow | None = None
        self.drafter = Drafter()
        self.awaited: tuple[Request, int] | None = None
        self.prompt_logprobs: list[IdLogprob] = []
        self._submitted = time.monotonic()
        self._started: float | None = None

    @property
    def num_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.spec.prompt_token_ids)

    @property
    def num_generated(self) -> int:
        """Tokens of the answer so far."""
        return len(self.token_ids) - self.num_prompt

    @property
    def decoding(self) -> bool:
        """Whether only its newest token is left to compute."""
        return self.num_generated > 0 and self.num_computed == len(self.token_ids) - 1

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether logits of every prompt position are needed (so no cached prefix is used)."""
        return self.spec.params.prompt_logprobs is not None and self.num_generated == 0

    def mark_started(self) -> None:
        """Note the time of the first admission."""
        if self._started is None:
            self._started = time.monotonic()

    def tell_prefill(self) -> None:
        """Tell the reader how far the prompt is read; its end is told by the first id."""
        if self.spec.tell_prefill and self.num_computed < self.num_prompt:
            self.mailbox.put_prefilled(self.num_computed)

    def accept(self, token_id: int, logprob: IdLogprob | None) -> Finished | None:
        """Take a sampled id, hand it to the reader, and say whether the answer ends with it."""
        generated = self.num_generated + 1
        if generated == 1:
            now = time.monotonic()
            queued = (self._started or now) - self._submitted
            self.mailbox.start(Started(self.num_cached or 0, queued, now - self._submitted))
        self.token_ids.append(token_id)
        self.mailbox.put(token_id, logprob)
        constraint = self.spec.constraint
        if constraint is not None and constraint.ended:
            # Nothing can follow, so the end-of-text id need not be waited for.
            return Finished(FinishReason.LENGTH if constraint.cut else FinishReason.STOP)
        if token_id in self.spec.stop_ids and generated > self.spec.params.min_tokens:
            own = None if token_id == self.spec.eos_token_id else token_id
            return Finished(FinishReason.STOP, own)
        if generated >= self.spec.max_tokens:
            return Finished(FinishReason.LENGTH)
        return None
