"""RuntimeLease: an adapter object's claim on a runtime that is loaded when first needed.

It knows no framework and does no I/O before that. Frameworks copy and rebuild their model objects
for every call; leases of equal options find the same runtime while any of them lives, so nothing is
loaded twice and nothing leaks.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import weakref
from typing import TYPE_CHECKING, Any

from aquila2_runtime.errors import EngineClosedError, InvalidRequestError
from aquila2_runtime.load_options import LoadOptions

if TYPE_CHECKING:
    from aquila2_runtime.runtime import Aquila2Runtime


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a checkpoint without loading its weights.

    Attributes:
        model: Its name.
        template: Its chat template; None when it has none.
        max_model_len: Tokens of prompt and answer together.
        template_tokens: Tokens the template adds around one user message.
    """

    model: str
    template: str | None
    max_model_len: int
    template_tokens: int


class _Slot:
    """One runtime for all leases of equal options; it lives as long as one of them does."""

    def __init__(self, options: LoadOptions | None, runtime: Aquila2Runtime | None) -> None:
        self.options = options
        self.lock = threading.Lock()
        # Of its own: whoever asks for facts, on an event loop even, does not wait for weights.
        self.facts_lock = threading.Lock()
        self.runtime = runtime
        self.facts: ModelFacts | None = None
        # Whether the facts are of a runtime, and not what the files alone tell.
        self.facts_of: weakref.ref[Aquila2Runtime] | None = None
        self.leases: weakref.WeakSet[RuntimeLease] = weakref.WeakSet()

    def facts_are_of(self, runtime: Aquila2Runtime | None) -> bool:
        """Whether the facts are of this runtime; or, for None, what the files tell."""
        return (None if self.facts_of is None else self.facts_of()) is runtime


class RuntimeLease:
    """A claim on a runtime.

    Args:
        **options: The keywords of ``Aquila2Runtime.load``.

    Raises:
        UnknownParameterError: An option does not exist.
        InvalidLoadOptionError: An option has a bad value.
    """

    def __init__(self, **options: Any) -> None:
        checked = LoadOptions.from_kwargs(**options)
        with _slots_lock:
            slot = _slots.get(checked)
            if slot is None:
                slot = _slots[checked] = _Slot(checked, None)
            slot.leases.add(self)
        self._slot: _Slot | None = slot

    @classmethod
    def of(cls, runtime: Aquila2Runtime) -> RuntimeLease:
        """Wrap a runtime that is loaded already; closing the lease leaves it to its owner."""
        lease = cls.__new__(cls)
        lease._slot = _Slot(None, runtime)
        lease._slot.leases.add(lease)
        return lease

    def runtime(self) -> Aquila2Runtime:
        """Return the runtime, loading it if no equal lease has.

        Raises:
            EngineClosedError: The lease was closed.
            Aquila2Error: Whatever loading raises.
        """
        slot = self._open()
        with slot.lock:
            if slot.runtime is None or (slot.options is not None and not slot.runtime.healthy):
                from aquila2_runtime.runtime import Aquila2Runtime

                if slot.options is None:
                    raise EngineClosedError("This lease has no runtime.")
                slot.runtime = Aquila2Runtime.from_options(slot.options)
            return slot.runtime

    async def aruntime(self) -> Aquila2Runtime:
        """Return the runtime without blocking the event loop while it loads."""
        return self.runtime() if self.at_hand else await asyncio.to_thread(self.runtime)

    @property
    def at_hand(self) -> bool:
        """Whether ``runtime`` returns at once, without loading or waiting for who loads."""
        slot = self._open()
        found = slot.runtime
        return found is not None and (slot.options is None or found.healthy)

    @property
    def loaded(self) -> bool:
        """Whether the runtime is there."""
        return self._slot is not None and self._slot.runtime is not None

    @property
    def options(self) -> LoadOptions | None:
        """The options; None when a loaded runtime was wrapped."""
        return self._open().options

    def check_adapter(self, name: str | None) -> None:
        """Refuse an adapter that the options do not name; nothing is loaded to find out.

        Raises:
            InvalidRequestError: There is none of that name.
        """
        options = self._open().options
        known = () if options is None else tuple(own for own, _ in options.adapter_pairs)
        if name is not None and options is not None and name not in known:
            loaded = f"one of {', '.join(map(repr, known))} or None" if known else "None"
            raise InvalidRequestError(
                f"adapter={name!r:.80} is not loaded; it must be {loaded}.",
                parameter="adapter",
                value=name,
                hint="Give its directory: adapters={name: directory}.",
            )

    def facts(self) -> ModelFacts:
        """Return what is known without weights; reads config.json and the tokenizer once.

        Once there is a runtime it is asked: a server may read less than its checkpoint could.

        Of a checkpoint that is not on this machine the small files are fetched.

        Raises:
            CheckpointError: The checkpoint cannot be found, or its files are wrong.
        """
        slot = self._open()
        if slot.facts is not None and slot.facts_are_of(slot.runtime):
            return slot.facts
        with slot.facts_lock:
            runtime = slot.runtime
            if slot.facts is None or not slot.facts_are_of(runtime):
                from aquila2_runtime.facts import facts_of_options, facts_of_runtime

                if runtime is not None:
                    slot.facts = facts_of_runtime(runtime)
                elif slot.options is not None:
                    slot.facts = facts_of_options(slot.options)
                else:
                    raise EngineClosedError("This lease has no runtime.")
                slot.facts_of = None if runtime is None else weakref.ref(runtime)
            return slot.facts

    def close(self) -> None:
        """Give the claim back; the last one of equal options frees the weights. Idempotent."""
        slot, self._slot = self._slot, None
        if slot is None:
            return
        with _slots_lock:
            slot.leases.discard(self)
            last = not slot.leases
            if last and slot.options is not None and _slots.get(slot.options) is slot:
                del _slots[slot.options]
        if last and slot.options is not None and slot.runtime is not None:
            slot.runtime.close()

    def __copy__(self) -> RuntimeLease:
        """Return a claim of its own on the same runtime; a closed lease's copy is closed."""
        lease = type(self).__new__(type(self))
        with _slots_lock:
            lease._slot = self._slot
            if lease._slot is not None:
                lease._slot.leases.add(lease)
        return lease

    def __deepcopy__(self, memo: dict[int, Any]) -> RuntimeLease:
        """Return a claim of its own on the same runtime; there is nothing deeper to copy."""
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the options; the copy loads, or shares, where it is unpickled."""
        options = self._open().options
        if options is None:
            msg = "A lease on a loaded runtime cannot be pickled; construct with model= instead."
            raise TypeError(msg)
        return _rebuild, (options.to_kwargs(),)

    def _open(self) -> _Slot:
        if self._slot is None:
            raise EngineClosedError("This model was closed.", hint="Construct it again.")
        return self._slot


def _rebuild(options: dict[str, Any]) -> RuntimeLease:
    return RuntimeLease(**options)


_slots_lock = threading.Lock()
# Weak values: when the last lease is collected, so is the slot, and with it its runtime, whose own
# use of the weights is given back at its collection.
_slots: weakref.WeakValueDictionary[LoadOptions, _Slot] = weakref.WeakValueDictionary()
