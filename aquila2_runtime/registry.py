"""Which models are loaded and who uses them: one set of weights per checkpoint, type and device.

It knows nothing of how a model is built. A model lives while at least one runtime uses it. A
runtime that is closed gives its use back at once; one that is garbage-collected leaves a note to
the model's own thread, because a finalizer may run in any thread and must not wait for a lock.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.engine.lora import LoraBank
    from aquila2_runtime.engine.torch_engine import TorchEngine
    from aquila2_runtime.load_options import LoadOptions
    from aquila2_runtime.placement import Placement
    from aquila2_runtime.tokenizer import Aquila2Tokenizer

# The step that a model nobody uses is in may still run.
_LEAVING_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.01


@dataclasses.dataclass(slots=True)
class LoadedModel:
    """A model on a device, its tokenizer, and how its cache was sized.

    Attributes:
        engine: Runs it.
        tokenizer: Of the checkpoint.
        config: Of the checkpoint.
        placement: Device and types.
        options: The options of the load that made it.
        num_blocks: KV blocks of its pool.
        weight_bytes: Memory of its weights.
        cache_reason: Why the pool has that size.
        bank: LoRA adapters beside the weights; only the engine's thread adds to it.
    """

    engine: TorchEngine
    tokenizer: Aquila2Tokenizer
    config: ModelConfig
    placement: Placement
    options: LoadOptions
    num_blocks: int
    weight_bytes: int
    cache_reason: str
    bank: LoraBank


class Registry:
    """Models by key, each with the uses that keep it loaded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[Hashable, LoadedModel] = {}
        self._uses: dict[Hashable, set[int]] = {}
        self._building: dict[Hashable, threading.Lock] = {}
        self._numbers = itertools.count(1)
        # Engines whose last runtime was collected. Finalizers add to it, without a lock.
        self._leaving: collections.deque[TorchEngine] = collections.deque()

    def acquire(self, key: Hashable, build: Callable[[], LoadedModel]) -> Use:
        """Find a loaded model or build it, once even if many ask at the same time."""
        with self._lock:
            use = self._join(key)
            turn = self._building.setdefault(key, threading.Lock())
        if use is not None:
            return use
        with turn:
            with self._lock:
                use = self._join(key)
            if use is not None:
                return use
            self._let_go()
            model = build()
            with self._lock:
                self._models[key] = model
                self._uses[key] = set()
                use = self._join(key)
        if use is None:
            model.engine.close()
            msg = "the engine ended while it was being registered"
            raise RuntimeError(msg)
        return use

    def _join(self, key: Hashable) -> Use | None:
        """Add a use to a loaded model; the lock is held."""
        model = self._models.get(key)
        if model is None or not model.engine.healthy:
            return None
        number = next(self._numbers)
        self._uses[key].add(number)
        return Use(self, key, number, model, self._uses[key])

    def drop_soon(self, key: Hashable, model: LoadedModel) -> None:
        """Leave a note to close a model if nobody uses it; for finalizers."""
        self._leaving.append(model.engine)
        model.engine.call_soon(functools.partial(self.drop_if_unused, key, model))

    def _let_go(self) -> None:
        """Wait for models that nobody uses: their memory counts as free for the next one."""
        while self._leaving:
            engine, passed = self._leaving.popleft(), threading.Event()
            engine.call_soon(passed.set)  # behind the note that may close it
            until = time.monotonic() + _LEAVING_SECONDS
            while engine.healthy and not passed.wait(_POLL_SECONDS) and time.monotonic() < until:
                pass
            if not engine.healthy:
                engine.close()

    def drop_if_unused(self, key: Hashable, model: LoadedModel) -> None:
        """Close a model that nobody uses any more."""
        with self._lock:
            if self._models.get(key) is not model:
                # Replaced after its engine died; the last of its own uses still closes it.
                unused = True
            else:
                unused = not self._uses[key]
                if unused:
                    del self._models[key], self._uses[key]
        if unused:
            model.engine.close()


class Use:
    """One runtime's use of a model; ``give_back`` is idempotent and runs at collection too."""

    def __init__(
        self,
        registry: Registry,
        key: Hashable,
        number: int,
        model: LoadedModel,
        uses: set[int],
    ) -> None:
        self._registry = registry
        self._key = key
        self._number = number
        self._uses = uses
        self._model: LoadedModel | None = model
        self._finalizer = weakref.finalize(self, _drop_later, registry, key, number, model, uses)
        self._finalizer.atexit = False

    @property
    def model(self) -> LoadedModel | None:
        """The model; None once given back."""
        return self._model

    def give_back(self) -> None:
        """End this use; the last one closes the model and waits until its memory is free."""
        model, self._model = self._model, None
        if model is not None and self._finalizer.detach() is not None:
            self._uses.discard(self._number)
            self._registry.drop_if_unused(self._key, model)


def _drop_later(
    registry: Registry, key: Hashable, number: int, model: LoadedModel, uses: set[int]
) -> None:
    uses.discard(number)
    if not uses:
        registry.drop_soon(key, model)


# The process's one registry: two adapters over the same checkpoint share its weights through it.
models = Registry()
