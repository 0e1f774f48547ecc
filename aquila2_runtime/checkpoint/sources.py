"""The tensors of verified weight files, each checked and counted as it is read. No model here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from aquila2_runtime.checkpoint.headers import open_bin
from aquila2_runtime.checkpoint.stored import StoredFile, StoredTensor
from aquila2_runtime.checkpoint.unpack import unpack
from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.packing import Packing
    from aquila2_runtime.checkpoint.verify import WeightFiles
    from aquila2_runtime.checkpoint.watch import Watch

# What is added to a tensor when it is read: a function of its values.
Update = Callable[[torch.Tensor], torch.Tensor]


class Source:
    """A tensor in a file, read when it is indexed: all that transformers asks of one.

    Args:
        name: Its name.
        stored: Gives its values when it is indexed, as a view of the mapped file.
        watch: Told of what is read.
        update: A change to make to its values.
        pieces: Gives some of its values at a time; None where only all can be had.
    """

    def __init__(
        self,
        name: str,
        stored: Any,
        watch: Watch,
        update: Update | None,
        pieces: StoredTensor | None = None,
    ) -> None:
        self._name = name
        self.names = (name,)
        self.stored = stored
        self.pieces = pieces if update is None else None
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

    def done(self) -> None:
        """Say that it was read to its end, in pieces, and found to be finite."""
        self._watch.count(self._name)


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
    sources: dict[str, Source] = {}
    files.check_unchanged()
    for file in files.files:
        names = [name for name, info in files.tensors.items() if info.file == file]
        stored, pieces = _open(file, names, files)
        sources |= {
            name: Source(name, stored[name], watch, (updates or {}).get(name), pieces.get(name))
            for name in names
        }
    # Opened by name: what was opened is what was verified if neither moment saw another file.
    files.check_unchanged()
    if files.packing is not None:
        return _joined(sources, files.packing, watch, updates or {})
    return sources


def _open(
    file: Path, names: list[str], files: WeightFiles
) -> tuple[Mapping[str, Any], Mapping[str, StoredTensor]]:
    """What gives a shard's tensors whole, and what gives them in pieces."""
    from safetensors import SafetensorError, safe_open

    if files.format == "bin":
        return open_bin(file), {}
    try:
        mapped = safe_open(file, framework="pt", device="cpu")
        opened = StoredFile(file)
        return (
            {name: mapped.get_slice(name) for name in names},
            {name: StoredTensor(opened, files.tensors[name]) for name in names},
        )
    except (SafetensorError, OSError) as problem:
        raise WeightsError(
            f"{file.name} cannot be opened: {problem!s:.200}.",
            parameter=file.name,
            hint="Fetch the file again.",
        ) from None


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
