"""Batches: many inputs of a chat model at once, so that the runtime computes them together.

It knows no model: what it does is to let enough of LangChain's own calls run at the same time.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ContextThreadPoolExecutor, ensure_config

from aquila2_runtime.companions import announcing

# Most threads of one batch or generate call; the runtime queues what it cannot compute at once.
MAX_WORKERS: Final = 64
# Most requests of one awaited batch in the runtime at once; more would fill its queue.
MAX_TASKS: Final = 1024


class Batches(BaseChatModel):
    """A chat model whose batches run together unless ``max_concurrency`` says less."""

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer many inputs, all on the device together unless ``max_concurrency`` says less."""
        config = wide(config, len(inputs), MAX_WORKERS)
        with announcing(together(config, len(inputs))):
            return super().batch(inputs, config, **kwargs)

    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer many inputs together without blocking the event loop."""
        config = wide(config, len(inputs), MAX_TASKS)
        with announcing(together(config, len(inputs))):
            return await super().abatch(inputs, config, **kwargs)

    def batch_as_completed(
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        """Answer many inputs together, yielding (index, answer) as they end."""
        config = wide(config, len(inputs), MAX_WORKERS)
        made = super().batch_as_completed(inputs, config, **kwargs)
        # All begin before the first of them ends; a generator's own context is its reader's.
        with announcing(together(config, len(inputs))):
            first = list(itertools.islice(made, 1))
        yield from first
        yield from made

    async def abatch_as_completed(
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Answer many inputs together, yielding (index, answer) as they end."""
        config = wide(config, len(inputs), MAX_TASKS)
        made = super().abatch_as_completed(inputs, config, **kwargs)
        with announcing(together(config, len(inputs))):
            first = [await anext(made)] if inputs else []
        for item in first:
            yield item
        async for item in made:
            yield item

    def generate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Any = None,
        *,
        run_id: uuid.UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer many conversations together; one run and its callbacks for each."""
        if len(messages) < 2:
            return super().generate(messages, stop, callbacks, run_id=run_id, **kwargs)
        plain = super().generate

        def one(index: int) -> LLMResult:
            own = run_id if index == 0 else None
            return plain([messages[index]], stop, callbacks, run_id=own, **kwargs)

        workers = min(len(messages), MAX_WORKERS)
        with announcing(workers), ContextThreadPoolExecutor(workers) as pool:
            results = list(pool.map(one, range(len(messages))))
        return self._joined(results)

    async def agenerate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Any = None,
        *,
        run_id: uuid.UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer many conversations together without blocking the event loop."""
        plain = super().agenerate
        results = []
        for first in range(0, max(len(messages), 1), MAX_TASKS):
            some, own = messages[first : first + MAX_TASKS], None if first else run_id
            with announcing(len(some)):
                results.append(await plain(some, stop, callbacks, run_id=own, **kwargs))
        return self._joined(results) if len(results) > 1 else results[0]

    def _joined(self, results: Sequence[LLMResult]) -> LLMResult:
        return LLMResult(
            generations=[answers for result in results for answers in result.generations],
            llm_output=self._combine_llm_outputs([result.llm_output for result in results]),
            run=[run for result in results for run in result.run or ()] or None,
        )


def wide(config: Any, count: int, most: int) -> Any:
    """Let ``most`` items be computed at once where the caller names no ``max_concurrency``."""

    def widened(own: Any) -> Any:
        if own is not None and not isinstance(own, Mapping):
            return own  # LangChain's to refuse
        if _limit(own) is not None:
            return own
        return {**(own or {}), "max_concurrency": max(1, min(count, most))}

    if isinstance(config, (list, tuple)):
        return [widened(one) for one in config]
    return widened(config)


def together(config: Any, count: int) -> int:
    """How many of ``count`` items begin at once under a config that ``wide`` returned."""
    # LangChain, too, asks the first of several configs.
    first = config[0] if isinstance(config, list) and config else config
    most = _limit(first) if first is None or isinstance(first, Mapping) else None
    return min(count, most) if isinstance(most, int) else 1


def _limit(own: Any) -> Any:
    """The caller's ``max_concurrency``; within another runnable it may be that one's."""
    return ensure_config(own).get("max_concurrency")
