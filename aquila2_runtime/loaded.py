"""Loaded: one use of a loaded checkpoint: what it is, how it does, its end. It answers nothing."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from aquila2_runtime.errors import EngineClosedError

if TYPE_CHECKING:
    from aquila2_runtime.engine.base import Engine, EngineStats
    from aquila2_runtime.info import RuntimeInfo
    from aquila2_runtime.prompts import PromptMaker
    from aquila2_runtime.tokenizer import Aquila2Tokenizer


class Model(Protocol):
    """What answers: a model in this process, or one at a server."""

    @property
    def engine(self) -> Engine:
        """Continues ids."""

    @property
    def tokenizer(self) -> Aquila2Tokenizer:
        """Of the checkpoint."""


class Claim(Protocol):
    """A handle's claim on a model."""

    @property
    def model(self) -> Model | None:
        """The model; None once given back."""

    def give_back(self) -> None:
        """End it; the last one of a model ends the model. Idempotent."""


class Loaded:
    """A handle on a loaded checkpoint; handles of one checkpoint share its weights.

    Args:
        use: This handle's claim on the model.
        prompts: Makes its prompts.
        info: What was loaded.
    """

    def __init__(self, use: Claim, prompts: PromptMaker, info: RuntimeInfo) -> None:
        self._use = use
        self._prompts = prompts
        self._info = info

    @property
    def tokenizer(self) -> Aquila2Tokenizer:
        """The checkpoint's tokenizer."""
        return self._prompts.tokenizer

    @property
    def info(self) -> RuntimeInfo:
        """What was loaded and how, each choice with its reason."""
        return self._info

    def stats(self) -> EngineStats:
        """Return what the engine is doing now."""
        return self._model().engine.stats()

    @property
    def healthy(self) -> bool:
        """Whether requests are served."""
        model = self._use.model
        return model is not None and model.engine.healthy

    # Closing

    def close(self) -> None:
        """Give this use of the weights back; the last one frees them. Idempotent."""
        self._use.give_back()

    async def aclose(self) -> None:
        """Close without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        await self.aclose()

    def __repr__(self) -> str:
        """Name the model and its state."""
        state = "closed" if self._use.model is None else self._info.device
        return f"<{type(self).__name__} {self._info.model} ({state})>"

    # Copies would share the weights without being counted; a pickle would carry them.

    def __copy__(self) -> Self:
        """Return itself: a runtime is a handle, not data."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: a runtime is a handle, not data."""
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Refuse to be pickled."""
        msg = "A loaded runtime cannot be pickled; pass the arguments of load() instead."
        raise TypeError(msg)

    def _model(self) -> Model:
        model = self._use.model
        if model is None:
            raise EngineClosedError(
                f"This runtime of {self._info.model} was closed.", hint="Load the checkpoint again."
            )
        return model
