"""The tensors of verified weight files, each checked and counted as it is read. No model here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from aquila2_runtime.checkpoint.headers import open_bin
from aquila2_runtime.checkpoint.unpack import unpack
from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.packing import Packing
    from aquila2_runtime.checkpoint.verify import WeightFiles

Progress = Callable[[str, int, int | None], None]
# What is added to a tensor when it is read: a function of its values.
Update = Callable[[torch.Tensor], torch.Tensor]


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

    Attributes:
        failure: What went wrong first, or None; the reader may wrap what it was told.
    """

    def __init__(self, files: WeightFiles, progress: Progress | None) -> None:
        self.failure: BaseException | None = None
        self._files = files
        self._progress = progress
        self._lock = threading.Lock()
        self._reads: dict[str, int] = {}
        self._left: dict[Path, set[str]] = {file: set() for file in files.files}
        for name, info in files.tensors.items():
            self._left[info.file].add(name)
        self._done = 0
        self._report()

    def seen(self, name: str, tensor: torch.Tensor) -> None:
        """Check a tensor that was read; called from the loader's threads."""
        if tensor.is_floating_point() and tensor.numel() and not is_finite(tensor):
            with self._lock:
                self.failure = self.failure or _not_finite(
                    name, self._files.tensors[name].file.name
                )
            raise self.failure
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


class Source:
    """A tensor in a file, read when it is indexed: all that transformers asks of one."""

    def __init__(self, name: str, stored: Any, watch: Watch, update: Update | None) -> None:
        self._name = name
        self.names = (name,)
        self.stored = stored
        self._watch = watch
        self._update = update

    def get_dtype(self) -> str:
        """The stored type as safetensors spells it; transformers asks whether it is a float."""
        if isinstance(self.stored, torch.Tensor):
            return "F" if self.stored.is_floating_point() else "I"
        return str(self.stored.get_dtype())

    def __getitem__(self, index: object) -> torch.Tensor:
        tensor: torch.Tensor = self.stored[index]
        self._watch.seen(self._name, tensor)
        return tensor if self._update is None else self._update(tensor)


class PackedSource:
    """A weight stored as 4-bit numbers in several tensors, unpacked when it is indexed."""

    def __init__(
        self,
        name: str,
        packing: Packing,
        parts: Mapping[str, Source],
        watch: Watch,
        update: Update | None,
    ) -> None:
        self._name = name
        self._packing = packing
        self._parts = parts
        self._watch = watch
        self._update = update
        self.names = tuple(name for part in parts.values() for name in part.names)

    def __getitem__(self, index: object) -> torch.Tensor:
        parts = {part: source[...] for part, source in self._parts.items()}
        try:
            weight = unpack(self._name, self._packing, parts)
        except WeightsError as error:
            # The loader wraps what it is told; this is what is wrong.
            self._watch.failure = self._watch.failure or error
            raise
        if self._update is not None:
            weight = self._update(weight)
        whole: torch.Tensor = weight[index]  # type: ignore[index]
        return whole


class OwnSource:
    """A tensor that no file's memory is behind any more.

    What is read is a view of the mapped file: it would change with the file, and crash the process
    where the file became shorter.

    Args:
        source: Gives its values.
        dtype: Type it is wanted in; None leaves its own. Beside packed weights transformers would
            leave everything in the file's.
    """

    def __init__(self, source: Source, dtype: torch.dtype | None) -> None:
        self.names = source.names
        self._source = source
        self._dtype = dtype

    def get_dtype(self) -> str:
        """The stored type as safetensors spells it."""
        return self._source.get_dtype()

    def __getitem__(self, index: object) -> torch.Tensor:
        tensor = self._source[index]
        return tensor.to(self._dtype or tensor.dtype, copy=True)


def open_sources(
    files: WeightFiles, watch: Watch, *, updates: Mapping[str, Update] | None = None
) -> Mapping[str, Source | PackedSource]:
    """Open every shard; nothing is read yet.

    Args:
        files: Verified files.
        watch: Told of every tensor that is read.
        updates: Changes to make to tensors, by name, when they are read whole.

    Returns:
        For each tensor what gives its values when indexed, as a view of the mapped file where they
        are stored as they are.

    Raises:
        WeightsError: A shard cannot be opened, or is not the one that was verified.
    """
    from safetensors import SafetensorError, safe_open

    sources: dict[str, Source] = {}
    files.check_unchanged()
    for file in files.files:
        names = [name for name, info in files.tensors.items() if info.file == file]
        if files.format == "bin":
            stored: dict[str, Any] = dict(open_bin(file))
        else:
            try:
                handle = safe_open(file, framework="pt", device="cpu")
                stored = {name: handle.get_slice(name) for name in names}
            except SafetensorError as problem:
                raise WeightsError(
                    f"{file.name} cannot be opened: {problem!s:.200}.",
                    parameter=file.name,
                    hint="Fetch the file again.",
                ) from None
        sources |= {
            name: Source(name, stored[name], watch, (updates or {}).get(name)) for name in names
        }
    # Opened by name: what was opened is what was verified if neither moment saw another file.
    files.check_unchanged()
    if files.packing is not None:
        return _joined(sources, files.packing, watch, updates or {})
    return sources


def _joined(
    sources: Mapping[str, Source], packing: Packing, watch: Watch, updates: Mapping[str, Update]
) -> dict[str, Source | PackedSource]:
    """The tensors that make up one weight as one source, under the weight's name."""
    joined: dict[str, Source | PackedSource] = {}
    parts: dict[str, dict[str, Source]] = {}
    for name, source in sources.items():
        module, _, part = name.rpartition(".")
        if part == "weight":
            joined[name] = source
        else:
            parts.setdefault(f"{module}.weight", {})[part] = source
    for name, own in parts.items():
        joined[name] = PackedSource(name, packing, own, watch, updates.get(name))
    return joined
