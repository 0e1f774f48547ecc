"""Packers: weights that are packed while they are read. They open no file.

transformers is then given what it would find in a directory that was saved packed, and never holds
a weight both ways. Nor does anyone, where weights need not be read whole: some rows at a time are
read and packed. All threads that ask for a weight's tensors pack rows of it.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final, Protocol

import torch

from aquila2_runtime.checkpoint import int8_packing, nf4_packing
from aquila2_runtime.checkpoint.room import Room
from aquila2_runtime.checkpoint.shared_work import SharedWork
from aquila2_runtime.checkpoint.sources import Source
from aquila2_runtime.checkpoint.watch import cannot_hold, is_finite
from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.sources import PackedSource
    from aquila2_runtime.checkpoint.stored import StoredTensor
    from aquila2_runtime.checkpoint.watch import Watch


class Packing(Protocol):
    """A weight that is being packed.

    Attributes:
        rows: Rows to be packed together.
        scales: One is not finite where a number that it scales is not.
    """

    rows: int
    scales: torch.Tensor

    def pack(self, start: int, weight: torch.Tensor) -> None:
        """Pack the rows from one on, a multiple of ``rows``; several threads do at once."""

    def parts(self) -> dict[str, torch.Tensor]:
        """The tensors that make it up, when all rows are packed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Packer:
    """How weights are packed.

    Attributes:
        parts: Names (after the projection's) of the tensors that make up a weight, and their types
            as safetensors spells them.
        begin: Begins to pack a weight of a shape and a type; what is only passed through goes
            through the room.
    """

    parts: Mapping[str, str]
    begin: Callable[[tuple[int, int], torch.dtype, Room], Packing]

    def pack(self, name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        """Pack a whole weight.

        Args:
            name: Its name, for messages.
            weight: ``[outputs, inputs]``, finite, on CPU.

        Raises:
            WeightsError: It holds numbers that cannot be packed.
        """
        out, inputs = weight.shape
        packing = self.begin((out, inputs), weight.dtype, Room())
        for start in range(0, out, packing.rows):
            packing.pack(start, weight[start : start + packing.rows])
        if not is_finite(packing.scales):
            raise _cannot_pack(name)
        return packing.parts()


def _cannot_pack(name: str) -> WeightsError:
    return WeightsError(
        f"Tensor {name} has values that float16 cannot hold; 8 bits are packed from it.",
        parameter=name,
        hint='Use "nf4", or no quantization.',
    )


PACKERS: Final[Mapping[str, Packer]] = {
    "nf4": Packer(nf4_packing.PARTS, nf4_packing.Nf4Packing),
    "int8": Packer(int8_packing.PARTS, int8_packing.Int8Packing),
}


def packing_sources(
    sources: Mapping[str, Source | PackedSource],
    weights: Collection[str],
    packer: Packer,
    dtype: torch.dtype,
    watch: Watch,
) -> dict[str, Source | PackedSource | PartSource]:
    """Replace weights by the tensors they are packed into.

    Args:
        sources: By name.
        weights: Names of those to pack.
        packer: Packs them.
        dtype: Type they are rounded to first, as transformers does.
        watch: Told what goes wrong.
    """
    packed: dict[str, Source | PackedSource | PartSource] = {}
    room = Room()
    for name, source in sources.items():
        if name not in weights:
            packed[name] = source
            continue
        whole = PackingSource(name, source, packer, dtype, watch, room)
        module = name.removesuffix(".weight")
        packed |= {f"{module}.{part}": PartSource(whole, part) for part in packer.parts}
    return packed


class PackingSource:
    """A weight that is packed when the first of its tensors is asked for.

    Args:
        name: The weight's.
        source: Gives its values.
        packer: Packs them.
        dtype: Type they are rounded to first.
        watch: Told what goes wrong.
        room: For what is only passed through.
    """

    def __init__(
        self,
        name: str,
        source: Source | PackedSource,
        packer: Packer,
        dtype: torch.dtype,
        watch: Watch,
        room: Room,
    ) -> None:
        self.names = source.names
        self.packer = packer
        self._name = name
        self._source = source
        self._dtype = dtype
        self._watch = watch
        self._room = room
        self._lock = threading.Lock()
        self._work: SharedWork | None = None
        self._parts: dict[str, torch.Tensor] = {}

    def take(self, part: str) -> torch.Tensor:
        """Give one of the tensors and keep it no longer; transformers asks for each once."""
        try:
            with self._lock:
                if self._work is None:
                    self._work = self._begin()
            self._work.join()
        except WeightsError as error:
            # The loader wraps what it is told; this is what is wrong.
            raise self._watch.fail(error) from None
        return self._parts.pop(part)

    def _begin(self) -> SharedWork:
        source = self._source
        if isinstance(source, Source) and source.pieces is not None:
            return self._by_rows(source, source.pieces)
        weight = source[...].to(self._dtype)
        if not is_finite(weight):
            raise cannot_hold(self._name, self._dtype)
        out, inputs = weight.shape
        packing = self.packer.begin((out, inputs), self._dtype, self._room)

        def pack(start: int) -> None:
            packing.pack(start, weight[start : start + packing.rows])

        return SharedWork(range(0, out, packing.rows), pack, lambda: self._finish(packing))

    def _by_rows(self, source: Source, pieces: StoredTensor) -> SharedWork:
        out, inputs = pieces.shape
        packing = self.packer.begin((out, inputs), self._dtype, self._room)

        def pack(start: int) -> None:
            rows = min(packing.rows, out - start)
            values = self._room.take("read", pieces.dtype, rows, inputs)
            pieces.read(values, start * inputs)
            packing.pack(start, values.to(self._dtype))

        def finish() -> None:
            self._finish(packing)
            source.done()

        return SharedWork(range(0, out, packing.rows), pack, finish)

    def _finish(self, packing: Packing) -> None:
        if not is_finite(packing.scales):
            # Read again, whole: the file's numbers, then the rounded ones, may be to blame.
            if not is_finite(self._source[...].to(self._dtype)):
                raise cannot_hold(self._name, self._dtype)
            raise _cannot_pack(self._name)
        self._parts = packing.parts()


class PartSource:
    """One of a weight's tensors: all that transformers asks of it."""

    def __init__(self, weight: PackingSource, part: str) -> None:
        # The file's own tensors are counted once, with the first part.
        self.names = weight.names if part == "weight" else ()
        self._weight = weight
        self._part = part

    def get_dtype(self) -> str:
        """The type as safetensors spells it."""
        return self._weight.packer.parts[self._part]

    def __getitem__(self, index: object) -> torch.Tensor:
        whole: torch.Tensor = self._weight.take(self._part)[index]  # type: ignore[index]
        return whole
