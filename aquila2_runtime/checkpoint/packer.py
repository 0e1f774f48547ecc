"""Packers: weights that are packed while they are read. They open no file.

transformers is then given what it would find in a directory that was saved packed, and never holds
a weight both ways.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final

import torch

from aquila2_runtime.checkpoint import int8_packing, nf4_packing
from aquila2_runtime.checkpoint.sources import cannot_hold, is_finite
from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.sources import PackedSource, Source, Watch


@dataclasses.dataclass(frozen=True, slots=True)
class Packer:
    """How weights are packed.

    Attributes:
        parts: Names (after the projection's) of the tensors that make up a weight, and their types
            as safetensors spells them.
        function: Makes them of a finite weight on CPU.
    """

    parts: Mapping[str, str]
    function: Callable[[torch.Tensor], dict[str, torch.Tensor]]

    def pack(self, name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        """Pack a weight.

        Args:
            name: Its name, for messages.
            weight: ``[outputs, inputs]``, finite, on CPU.

        Raises:
            WeightsError: It holds numbers that cannot be packed.
        """
        parts = self.function(weight)
        if "SCB" in parts and not is_finite(parts["SCB"]):
            raise WeightsError(
                f"Tensor {name} has values that float16 cannot hold; 8 bits are packed from it.",
                parameter=name,
                hint='Use "nf4", or no quantization.',
            )
        return parts


PACKERS: Final[Mapping[str, Packer]] = {
    "nf4": Packer(nf4_packing.PARTS, nf4_packing.pack_nf4),
    "int8": Packer(int8_packing.PARTS, int8_packing.pack_int8),
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
    for name, source in sources.items():
        if name not in weights:
            packed[name] = source
            continue
        whole = PackingSource(name, source, packer, dtype, watch)
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
    """

    def __init__(
        self,
        name: str,
        source: Source | PackedSource,
        packer: Packer,
        dtype: torch.dtype,
        watch: Watch,
    ) -> None:
        self.names = source.names
        self.packer = packer
        self._name = name
        self._source = source
        self._dtype = dtype
        self._watch = watch
        self._lock = threading.Lock()
        self._parts: dict[str, torch.Tensor] | None = None

    def take(self, part: str) -> torch.Tensor:
        """Give one of the tensors and keep it no longer; transformers asks for each once."""
        with self._lock:
            if self._parts is None:
                try:
                    self._parts = self.packer.pack(self._name, self._rounded())
                except WeightsError as error:
                    # The loader wraps what it is told; this is what is wrong.
                    self._watch.failure = self._watch.failure or error
                    raise
            return self._parts.pop(part)

    def _rounded(self) -> torch.Tensor:
        rounded: torch.Tensor = self._source[...].to(self._dtype)
        if not is_finite(rounded):
            raise cannot_hold(self._name, self._dtype)
        return rounded


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
