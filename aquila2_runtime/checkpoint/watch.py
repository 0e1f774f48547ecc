"""Watch: sees every tensor of verified files as it is read, and is told what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from aquila2_runtime.errors import EngineClosedError, WeightsError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.verify import WeightFiles

Progress = Callable[[str, int, int | None], None]


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether no element is NaN or infinite."""
    # One pass and no copy: NaN and infinity both reach the extremes.
    low, high = torch.aminmax(tensor.detach())
    return bool(torch.isfinite(low) & torch.isfinite(high))


def cannot_hold(name: str, dtype: torch.dtype) -> WeightsError:
    """Say that a tensor's values do not fit the type they are wanted in."""
    return WeightsError(
        f"Tensor {name} has values that {str(dtype).removeprefix('torch.')} cannot hold.",
        parameter=name,
        hint='Load with dtype="bfloat16" or "float32".',
    )


def _not_finite(name: str, file: str) -> WeightsError:
    """Say that a tensor holds NaN or infinity."""
    return WeightsError(
        f"{file}: tensor {name} holds NaN or infinity.",
        parameter=name,
        value=file,
        hint="Fetch the file again; it may be damaged.",
    )


class HasNames(Protocol):
    """What is made of tensors in files."""

    @property
    def names(self) -> tuple[str, ...]:
        """Which."""


class Watch:
    """Sees every tensor as it is read: counts it, checks it, reports progress by shard.

    Args:
        files: Verified files.
        progress: Called at each shard's end.
        stopped: Asked again and again whether nobody waits for the weights any more.

    Attributes:
        failure: What went wrong first, or None; the reader may wrap what it was told.
    """

    def __init__(
        self,
        files: WeightFiles,
        progress: Progress | None,
        stopped: Callable[[], bool] | None = None,
    ) -> None:
        self.failure: BaseException | None = None
        self._stopped = stopped
        self._files = files
        self._progress = progress
        self._lock = threading.Lock()
        self._reads: dict[str, int] = {}
        self._left: dict[Path, set[str]] = {file: set() for file in files.files}
        for name, info in files.tensors.items():
            self._left[info.file].add(name)
        self._done = 0
        self._report()

    def fail(self, error: BaseException) -> BaseException:
        """Take in what went wrong; gives what went wrong first, to be raised."""
        with self._lock:
            self.failure = self.failure or error
            return self.failure

    def check(self, name: str, values: torch.Tensor) -> None:
        """Check values of a tensor that were read; called from the loader's threads."""
        if self._stopped is not None and self._stopped():
            raise self.fail(EngineClosedError("Loading was given up by who asked for it."))
        if values.is_floating_point() and values.numel() and not is_finite(values):
            raise self.fail(_not_finite(name, self._files.tensors[name].file.name))

    def seen(self, name: str, tensor: torch.Tensor) -> None:
        """Check and count a tensor that was read whole."""
        self.check(name, tensor)
        self.count(name)

    def count(self, name: str) -> None:
        """Take in that a tensor was read to its end; called from the loader's threads."""
        with self._lock:
            self._reads[name] = self._reads.get(name, 0) + 1
            info = self._files.tensors[name]
            left = self._left[info.file]
            left.discard(name)
            self._done += info.num_bytes
            if not left:
                try:
                    self._report()
                except BaseException as error:
                    self.failure = self.failure or error
                    raise

    def check_counts(self, sources: Iterable[HasNames]) -> None:
        """Every tensor was read, and once."""
        for name in (part for source in sources for part in source.names):
            if self._reads.get(name) != 1:
                raise WeightsError(
                    f"Tensor {name} was read {self._reads.get(name, 0)} times instead of once.",
                    parameter=name,
                    hint="This transformers version loads differently; report it.",
                )

    def _report(self) -> None:
        if self._progress is not None:
            self._progress("loading", self._done, self._files.num_bytes)
