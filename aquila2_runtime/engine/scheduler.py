"""Scheduler: which tokens of which requests the next step computes. Pure policy, no tensors.

Requests that decode come first, one token each; what is left of the step's token budget goes to
prompts in order of arrival. Beside answers that somebody reads along, prompts get a smaller budget,
so that a long one makes the readers wait for one small chunk a token, not for a whole step's worth.
Where all who decode are read at their end, prompts get whole steps: that takes less time in all,
for with small chunks the weights would be read again and again.
A request is admitted when its whole prompt finds blocks. When a decoding request needs a block and
none is free, the youngest request gives all of its blocks back and is computed again later
(preemption by recompute); its ids stay what they were.

A waiting request that begins as a prompt now being read does, a long way beyond what is cached,
waits for that prompt's blocks and takes them over: many questions of one document, asked together,
have it computed once. They give up nothing, for the budget would go to the earlier prompt anyway.

With speculation, a few decoding requests may bring drafts along: guessed next tokens, verified in
the same step. What is wrong about them is never noted as computed, and its place is written over.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Sequence
from typing import Final

from aquila2_runtime.engine.kv_cache import BlockPool
from aquila2_runtime.engine.leaders import find_leader
from aquila2_runtime.engine.pace import Pace
from aquila2_runtime.engine.request import Request, Status

# With more requests decoding, a step has rows enough without guesses.
_MOST_DRAFTING: Final = 4


# Not frozen: one is made for every row of every step, and a frozen one takes three times as long.
@dataclasses.dataclass(slots=True)
class Scheduled:
    """Tokens ``start`` to ``start + count`` of one request, computed in this step.

    Attributes:
        drafts: Guesses at the tokens after these, computed as well and then verified.
        samples: Whether the step ends at the request's newest token, so that a next is chosen.
    """

    request: Request
    start: int
    count: int
    drafts: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Tokens computed, the drafts among them."""
        return self.count + len(self.drafts)

    @property
    def samples(self) -> bool:
        """Whether the chunk reaches the newest token, so that the next one is chosen."""
        return self.start + self.count == len(self.request.token_ids)


class Scheduler:
    """Owns the queue, the running requests and their blocks.

    Args:
        pool: The KV blocks.
        max_num_seqs: Most requests on the device at once.
        max_step_tokens: Most tokens a step computes.
        max_prefill_beside_decode: Most prompt tokens of a step in which an answer gets its next
            token that somebody reads along; None for no bound of its own.
        pace: Says how many of them are not too many to wait for; None leaves it at the bound.
        tile: Chunks of prompts end at multiples of so many tokens where they can, as the attention
            computes these together: half of them would take as long.
        speculate: Whether decoding requests may bring drafts along.
        ahead: Whether decoding requests get the block of their next token beforehand, so that a
            step can be launched before this one's ids are known.
    """

    def __init__(
        self,
        pool: BlockPool,
        *,
        max_num_seqs: int,
        max_step_tokens: int,
        max_prefill_beside_decode: int | None = None,
        pace: Pace | None = None,
        tile: int = 1,
        speculate: bool = False,
        ahead: bool = False,
    ) -> None:
        self.pool = pool
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.preemptions = 0
        self.drafted = 0
        self.accepted = 0
        self._speculate = speculate
        self._ahead = ahead
        self._max_num_seqs = max_num_seqs
        self._max_step_tokens = max(max_step_tokens, max_num_seqs)
        self._max_beside = max_prefill_beside_decode or self._max_step_tokens
        self._pace = pace
        self._tile = tile

    def add(self, request: Request) -> None:
        """Queue a request behind the others."""
        self.waiting.append(request)

    def schedule(self) -> list[Scheduled]:
        """Choose the next step's work: decoding requests first, then chunks of prompts."""
        plan: list[Scheduled] = []
        budget = self._max_step_tokens
        for request in list(self.running):
            # A request preempted for an earlier one in this loop is no longer running.
            if request.decoding and request.status is Status.RUNNING and self._grow(request):
                plan.append(Scheduled(request, request.num_computed, 1))
                budget -= 1
        plan = [item for item in plan if item.request.status is Status.RUNNING]
        if self._speculate and len(plan) <= _MOST_DRAFTING:
            plan = [self._with_drafts(item, budget // len(plan)) for item in plan]
            budget -= sum(len(item.drafts) for item in plan)
        if self._ahead:
            for item in plan:
                self._reserve(item.request)
        if any(item.request.spec.read_along for item in plan):
            budget = min(budget, self._max_beside)
            if self._pace is not None:
                budget = min(budget, self._pace.tokens)
        for request in self.running:
            if budget > 0 and not request.decoding:
                budget -= self._chunk(request, budget, plan)
        self._admit_waiting(budget, plan)
        return plan

    def computed(self, item: Scheduled) -> None:
        """Note that a scheduled chunk has run; its full blocks become reusable."""
        request = item.request
        request.num_computed = item.start + item.count
        if request.num_computed // self.pool.block_size == len(request.nodes):
            return  # no block became full
        request.blocks = self.pool.enter(
            request.token_ids,
            request.num_computed,
            request.blocks,
            request.nodes,
            request.spec.cache_key,
        )

    def took(self, scheduled: Sequence[Scheduled], seconds: float) -> None:
        """Note what a step took."""
        if self._pace is not None:
            # A decoding request's chunk is one token.
            self._pace.note(sum(item.count for item in scheduled if item.count > 1), seconds)

    def verified(self, request: Request) -> None:
        """Note that a draft was right: the newest token, just accepted, is computed already."""
        self.accepted += 1
        self.computed(Scheduled(request, request.num_computed, 1))

    def end(self, request: Request) -> None:
        """Take a request out, wherever it stands, and give its blocks back."""
        if request.status is Status.RUNNING:
            self.running.remove(request)
        elif request.status is Status.WAITING:
            self.waiting.remove(request)
        request.status = Status.ENDED
        self._give_back(request)

    def _chunk(self, request: Request, budget: int, plan: list[Scheduled]) -> int:
        """Plan a prompt's next tokens; returns how much of the budget is gone with them."""
        left = len(request.token_ids) - request.num_computed
        count = taken = min(budget, left)
        if count < left:
            behind = (request.num_computed + count) % self._tile
            # What is cut off goes to nobody: another prompt would get a sliver of a tile.
            count -= behind if behind < count else 0
        plan.append(Scheduled(request, request.num_computed, count))
        return taken

    def _admit_waiting(self, budget: int, plan: list[Scheduled]) -> None:
        """Admit in order of arrival; who waits for another's prefix keeps its turn and its seat."""
        seats = self._max_num_seqs - len(self.running)
        # Not the queue itself, which loses whoever is admitted.
        for request in list(itertools.islice(self.waiting, max(seats, 0))):
            if budget <= 0:
                return
            if self._awaits_prefix(request):
                continue
            if not self._admit(request):
                return
            self.waiting.remove(request)
            budget -= self._chunk(request, budget, plan)

    def _awaits_prefix(self, request: Request) -> bool:
        """Whether a running request is about to compute a long part of this one's prompt."""
        if request.awaited is None:
            request.awaited = find_leader(request, self.running, self.pool)
        if request.awaited is not None:
            leader, tokens = request.awaited
            if leader.status is Status.RUNNING and leader.num_computed < tokens:
                return True
            request.awaited = None  # computed, aborted or preempted: what there is, is cached
        return False

    def _with_drafts(self, item: Scheduled, most: int) -> Scheduled:
        """Add drafts as far as the answer and the free blocks have room; nobody gives way."""
        request = item.request
        if request.spec.constraint is not None:
            return item  # which ids may follow a draft is known only once it is taken
        # The token chosen after the last draft is the answer's, too.
        most = min(most, request.spec.max_tokens - request.num_generated - 1)
        drafts = request.drafter.propose(request.token_ids, most)
        length = len(request.token_ids)
        needed = self.pool.blocks_for(length + len(drafts)) - len(request.blocks)
        if needed > 0:
            request.blocks += self.pool.allocate(needed, after=request.blocks[-1]) or []
        del drafts[len(request.blocks) * self.pool.block_size - length :]
        self.drafted += len(drafts)
        return dataclasses.replace(item, drafts=tuple(drafts))

    def _admit(self, request: Request) -> bool:
        """Give a waiting request blocks for all of its tokens and the next one, or leave it."""
        if len(self.running) >= self._max_num_seqs:
            return False
        blocks: list[int] = []
        nodes: list[int] = []
        if not request.wants_prompt_logprobs:
            blocks, nodes = self.pool.match(request.token_ids, request.spec.cache_key)
        needed = self.pool.blocks_for(len(request.token_ids) + 1) - len(blocks)
        if needed > self.pool.free_beside(blocks):
            return False
        self.pool.hold(blocks)
        fresh = self.pool.allocate(needed, after=blocks[-1] if blocks else None) or []
        request.blocks = blocks + fresh
        request.nodes = nodes
        request.num_computed = len(blocks) * self.pool.block_size
        if request.num_cached is None:
            request.num_cached = request.num_computed
        request.status = Status.RUNNING
        request.mark_started()
        self.running.append(request)
        return True

    def _grow(self, request: Request) -> bool:
        """Make room for the newest token's keys and values, preempting the youngest if need be."""
        while self.pool.blocks_for(len(request.token_ids)) > len(request.blocks):
            fresh = self.pool.allocate(1, after=request.blocks[-1])
            if fresh is not None:
                request.blocks += fresh
                continue
            # By arrival, not by admission: the oldest request always gets on, so none starves.
            youngest = max(self.running, key=lambda other: other.request_id)
            self._preempt(youngest)
            if youngest is request:
                return False
        return True

    def _reserve(self, request: Request) -> None:
        """Make room for the token after the newest, if there is any; nobody gives way."""
        if self.pool.blocks_for(len(request.token_ids) + 1) > len(request.blocks):
            # In place: the runner knows a request that was admitted anew by its other list.
            request.blocks += self.pool.allocate(1, after=request.blocks[-1]) or []

    def _preempt(self, request: Request) -> None:
        self.preemptions += 1
        self.running.remove(request)
        self._give_back(request)
        request.num_computed = 0
        request.prompt_logprobs = []
        request.status = Status.WAITING
        self.waiting.appendleft(request)

    def _give_back(self, request: Request) -> None:
        self.pool.release(request.blocks)
        request.blocks = []
        request.nodes = []
