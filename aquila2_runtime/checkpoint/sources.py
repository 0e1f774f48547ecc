"""The tensors of verified weight files, each checked and counted as it is read. No model here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import torch

from aquila2_runtime.checkpoint.stored import StoredTensor, open_tensors
from aquila2_runtime.checkpoint.unpack import unpack
from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.packing import Packing
    from aquila2_runtime.checkpoint.room import Room
    from aquila2_runtime.checkpoint.verify import WeightFiles
    from aquila2_runtime.checkpoint.watch import Watch

# Numbers that are read and checked together. Of 256,000 at a time a load takes a third longer: each
# operation begins under Python's lock.
_STRETCH: Final = 1 << 22
# What is added to a tensor when it is read: a function of its values.
Update = Callable[[torch.Tensor], torch.Tensor]


class Source:
    """A tensor in a file, read when it is indexed: all that transformers asks of one.

    Args:
        name: Its name.
        stored: Reads its values; or all of them, of a file that torch read whole.
        watch: Told of what is read.
        update: A change to make to its values.
    """

    def __init__(
        self, name: str, stored: StoredTensor | torch.Tensor, watch: Watch, update: Update | None
    ) -> None:
        self._name = name
        self.names = (name,)
        self._stored = stored
        self._watch = watch
        self._update = update

    @property
    def pieces(self) -> StoredTensor | None:
        """Gives some of its values at a time; None where only all can be had."""
        stored = self._stored
        if self._update is not None or isinstance(stored, torch.Tensor) or not stored.by_rows:
            return None
        return stored

    @property
    def owned(self) -> bool:
        """Whether what it gives shares no memory with other tensors of the file."""
        return self._update is not None or not isinstance(self._stored, torch.Tensor)

    def get_dtype(self) -> str:
        """Its type, as far as transformers asks: whether it is a float."""
        return "F" if self._stored.dtype.is_floating_point else "I"

    def __getitem__(self, index: object) -> torch.Tensor:
        tensor = self.values()[index]  # type: ignore[index]
        self._watch.seen(self._name, tensor)
        return tensor if self._update is None else self._update(tensor)

    def values(self) -> torch.Tensor:
        """Its values, neither checked nor counted.

        Raises:
            WeightsError: The file became shorter, or cannot be read.
        """
        stored = self._stored
        if isinstance(stored, torch.Tensor):
            return stored
        try:
            return stored.values()
        except WeightsError as error:
            # The loader wraps what it is told; this is what is wrong.
            raise self._watch.fail(error) from None

    def read(self, pieces: StoredTensor, out: torch.Tensor, room: Room) -> None:
        """Read it in pieces, each of which is checked.

        Args:
            pieces: Its own.
            out: Contiguous, of its shape, on CPU; of any type.
            room: For what changes its type.

        Raises:
            WeightsError: The file became shorter, or a number is not finite.
        """
        line = out.view(-1)
        try:
            for start in range(0, len(line), _STRETCH):
                part = line[start : start + _STRETCH]
                same = part.dtype == pieces.dtype
                values = part if same else room.take("read", pieces.dtype, len(part))
                pieces.read(values, start)
                self._watch.check(self._name, values)
                if not same:
                    part.copy_(values)
        except WeightsError as error:
            raise self._watch.fail(error) from None
        self.done()

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
    """A tensor in memory of its own, read in pieces where it can be.

    What torch read whole may share memory with other tensors, and is copied.

    Args:
        source: Gives its values.
        dtype: Type it is wanted in; None leaves its own. Beside packed weights transformers would
            leave everything in the file's.
        room: For what is only passed through.
        moves: Whether whoever asks for it brings it to another device at once: the next tensor that
            the same thread reads then takes its place.
    """

    def __init__(
        self, source: Source, dtype: torch.dtype | None, room: Room, *, moves: bool = False
    ) -> None:
        self.names = source.names
        self._source = source
        self._dtype = dtype
        self._room = room
        self._moves = moves

    def get_dtype(self) -> str:
        """The stored type as safetensors spells it."""
        return self._source.get_dtype()

    def __getitem__(self, index: object) -> torch.Tensor:
        pieces = self._source.pieces
        if pieces is None:
            tensor = self._source[index]
            copies = not (self._moves or self._source.owned)
            return tensor.to(self._dtype or tensor.dtype, copy=copies)
        dtype = self._dtype or pieces.dtype
        if self._moves:
            own = self._room.take("own", dtype, *pieces.shape)
        else:
            own = torch.empty(pieces.shape, dtype=dtype)
        self._source.read(pieces, own, self._room)
        whole: torch.Tensor = own[index]  # type: ignore[index]
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
        For each tensor what gives its values when indexed.

    Raises:
        WeightsError: A shard cannot be opened, or is not the one that was verified.
    """
    sources: dict[str, Source] = {}
    files.check_unchanged()
    for file in files.files:
        infos = {name: info for name, info in files.tensors.items() if info.file == file}
        stored = open_tensors(file, infos)
        sources |= {
            name: Source(name, stored[name], watch, (updates or {}).get(name)) for name in infos
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
