"""The tensors of verified weight files, each checked and counted as it is read. No model here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import torch

from aquila2_runtime.checkpoint.headers import open_bin
from aquila2_runtime.checkpoint.room import Room
from aquila2_runtime.checkpoint.stored import StoredFile, StoredTensor
from aquila2_runtime.checkpoint.unpack import unpack
from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.packing import Packing
    from aquila2_runtime.checkpoint.verify import WeightFiles
    from aquila2_runtime.checkpoint.watch import Watch

# What is added to a tensor when it is read: a function of its values.
Update = Callable[[torch.Tensor], torch.Tensor]
# Numbers that are read, checked and converted together, while the processor's cache holds them.
_PIECE: Final = 1 << 18


class Source:
    """A tensor in a file, read when it is indexed: all that transformers asks of one.

    Args:
        name: Its name.
        stored: Gives its values: a tensor of a safetensors file, or one whose file is mapped.
        watch: Told of what is read.
        update: A change to make to its values.
        room: For what is only passed through.
    """

    def __init__(
        self,
        name: str,
        stored: StoredTensor | torch.Tensor,
        watch: Watch,
        update: Update | None,
        room: Room,
    ) -> None:
        self.names = (name,)
        self.stored = stored
        self._name = name
        self._watch = watch
        self._update = update
        self._room = room

    def get_dtype(self) -> str:
        """The stored type as safetensors spells it; transformers asks whether it is a float."""
        if isinstance(self.stored, torch.Tensor):
            return "F" if self.stored.is_floating_point() else "I"
        return self.stored.get_dtype()

    def __getitem__(self, index: object) -> torch.Tensor:
        tensor = self._whole(self.stored.dtype)
        if self._update is not None:
            tensor = self._update(tensor)
        part: torch.Tensor = tensor[index]  # type: ignore[index]
        return part

    def own(self, dtype: torch.dtype | None) -> torch.Tensor:
        """Its values in memory that no file is behind.

        Args:
            dtype: Type they are wanted in; None leaves their own.
        """
        wanted = dtype or self.stored.dtype
        tensor = self._whole(wanted) if self._update is None else self[...].to(wanted)
        # What is mapped would change with the file, and crash the process where it became shorter.
        return tensor.clone() if tensor is self.stored else tensor

    @property
    def in_pieces(self) -> bool:
        """Whether its values can be read some at a time."""
        return self._update is None and isinstance(self.stored, StoredTensor)

    def read(self, out: torch.Tensor, start: int) -> None:
        """Read some of the values, unchecked, of one that can be read in pieces.

        Args:
            out: Where they go: contiguous, of the stored type.
            start: The first.

        Raises:
            WeightsError: The file became shorter.
        """
        if isinstance(self.stored, torch.Tensor):
            out.view(-1).copy_(self.stored.reshape(-1)[start : start + out.numel()])
            return
        try:
            self.stored.read(out, start)
        except WeightsError as error:
            # The loader wraps what it is told; this is what is wrong.
            raise self._watch.fail(error) from None

    def peek(self) -> torch.Tensor:
        """Its values as they are stored, unchecked and uncounted."""
        if isinstance(self.stored, torch.Tensor):
            return self.stored
        values = torch.empty(self.stored.shape, dtype=self.stored.dtype)
        self.read(values, 0)
        return values

    def done(self) -> None:
        """Say that it was read to its end, piece by piece."""
        self._watch.count(self._name)

    def _whole(self, dtype: torch.dtype) -> torch.Tensor:
        stored = self.stored
        if isinstance(stored, torch.Tensor):
            self._watch.check(self._name, stored)
            tensor = stored.to(dtype)
        else:
            tensor = torch.empty(stored.shape, dtype=dtype)
            numbers = tensor.view(-1)
            for start in range(0, len(numbers), _PIECE):
                part = numbers[start : start + _PIECE]
                values = part
                if dtype != stored.dtype:
                    values = self._room.take("read", stored.dtype, len(part))
                self.read(values, start)
                self._watch.check(self._name, values)
                if values is not part:
                    part.copy_(values)
        self.done()
        return tensor


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
        whole: torch.Tensor = self._source.own(self._dtype)[index]  # type: ignore[index]
        return whole


def open_sources(
    files: WeightFiles, watch: Watch, *, updates: Mapping[str, Update] | None = None
) -> Mapping[str, Source | PackedSource]:
    """Open every shard; nothing is read yet.

    Args:
        files: Verified files.
        watch: Told of every tensor that is read.
        updates: Changes to make to tensors, by name, when they are read whole.

    Returns:
        For each tensor what gives its values when indexed. Those of ``.bin`` files are views of the
        mapped file.

    Raises:
        WeightsError: A shard cannot be opened, or is not the one that was verified.
    """
    sources: dict[str, Source] = {}
    room = Room()
    files.check_unchanged()
    for file in files.files:
        names = [name for name, info in files.tensors.items() if info.file == file]
        stored: Mapping[str, StoredTensor | torch.Tensor]
        if files.format == "bin":
            stored = open_bin(file)
        else:
            try:
                opened = StoredFile(file)
            except OSError as problem:
                raise WeightsError(
                    f"{file.name} cannot be opened: {problem.strerror or type(problem).__name__}.",
                    parameter=file.name,
                    hint="Fetch the file again.",
                ) from None
            stored = {name: StoredTensor(opened, files.tensors[name]) for name in names}
        sources |= {
            name: Source(name, stored[name], watch, (updates or {}).get(name), room)
            for name in names
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
