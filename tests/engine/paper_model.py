"""A model on paper: it runs scheduled steps, remembers every slot's token, and checks all reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aquila2_runtime.engine.base import EngineRequest
from aquila2_runtime.engine.handle import Mailbox
from aquila2_runtime.engine.request import Request, Status
from aquila2_runtime.engine.scheduler import Scheduled, Scheduler
from aquila2_runtime.sampling import SamplingParams

NextId = Callable[[Sequence[int]], int]


def make_request(
    number: int,
    prompt: Sequence[int],
    *,
    max_tokens: int = 4,
    stop_ids: frozenset[int] = frozenset(),
    cache_key: tuple[str, ...] = (),
    params: SamplingParams | None = None,
) -> Request:
    """A request as the engine makes it."""
    spec = EngineRequest(
        prompt_token_ids=tuple(prompt),
        params=params or SamplingParams(),
        max_tokens=max_tokens,
        seed=0,
        stop_ids=stop_ids,
        eos_token_id=0,
        cache_key=cache_key,
    )
    return Request(number, spec, Mailbox(quiet=False))


def answer_of(request: Request, next_id: NextId) -> list[int]:
    """The answer a request has alone."""
    ids = list(request.spec.prompt_token_ids)
    while len(ids) - request.num_prompt < request.spec.max_tokens:
        ids.append(next_id(ids))
        if ids[-1] in request.spec.stop_ids:
            break
    return ids[request.num_prompt :]


class PaperModel:
    """Chooses ids by a rule, as the runner and the engine together do.

    Args:
        scheduler: Whose steps are run.
        next_id: The rule: all ids so far to the next one.
    """

    def __init__(self, scheduler: Scheduler, next_id: NextId) -> None:
        self.scheduler = scheduler
        self.steps = 0
        self.rows = 0
        self._next_id = next_id
        self._slots: dict[tuple[int, int], int] = {}  # (block, offset) -> token

    def step(self) -> list[Scheduled]:
        """Schedule and run one step."""
        plan = self.scheduler.schedule()
        for item in plan:
            self._write(item)
        for item in plan:
            self._check(item)
        chosen = [(item, self._choose(item)) for item in plan if item.samples]
        for item in plan:
            self.scheduler.computed(item)
        for item, ids in chosen:
            self._accept(item.request, ids)
        self._check_index()
        self.steps += bool(plan)
        self.rows += sum(item.rows for item in plan)
        return plan

    def _write(self, item: Scheduled) -> None:
        size = self.scheduler.pool.block_size
        ids = [*item.request.token_ids[item.start : item.start + item.count], *item.drafts]
        for position, token in enumerate(ids, item.start):
            self._slots[item.request.blocks[position // size], position % size] = token

    def _check(self, item: Scheduled) -> None:
        """Everything the last row reads is what its request says."""
        request, size = item.request, self.scheduler.pool.block_size
        ids = [*request.token_ids[: item.start + item.count], *item.drafts]
        read = [self._slots[request.blocks[at // size], at % size] for at in range(len(ids))]
        assert read == ids

    def _choose(self, item: Scheduled) -> list[int]:
        ids, chosen = list(item.request.token_ids), []
        for draft in (*item.drafts, None):
            chosen.append(self._next_id(ids))
            if chosen[-1] != draft:
                break
            ids.append(chosen[-1])
        return chosen

    def _accept(self, request: Request, ids: Sequence[int]) -> None:
        for ahead, token_id in enumerate(ids):
            if ahead:
                self.scheduler.verified(request)
            if request.accept(token_id, None) is not None:
                self.scheduler.end(request)
                return
        assert request.status is Status.RUNNING

    def _check_index(self) -> None:
        """What later requests may reuse is what the index says it is."""
        size = self.scheduler.pool.block_size
        for block, (_, (_, ids)) in self.scheduler.pool._block_node.items():
            assert tuple(self._slots[block, at] for at in range(size)) == ids
