"""Rewriting: what a checkpoint's tensors become in another type, or packed. It writes no file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from aquila2_runtime.checkpoint.expected import projections
from aquila2_runtime.checkpoint.prequantized import (
    BLOCK,
    CODES,
    HEAD,
    NESTED_BLOCK,
    NESTED_CODES,
    STATE,
    STATE_BYTES,
    Prequantized,
)
from aquila2_runtime.checkpoint.shard_writer import TensorForm
from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    import torch

    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.checkpoint.sources import PackedSource, Source
    from aquila2_runtime.checkpoint.verify import WeightFiles


@dataclasses.dataclass(frozen=True, slots=True)
class Weight:
    """A weight of the source, which some tensors there make up.

    Attributes:
        name: Its name.
        files: Those that hold it.
        read_bytes: Bytes of its tensors there.
        written_bytes: Bytes of its tensors in the new form.
    """

    name: str
    files: tuple[Path, ...]
    read_bytes: int
    written_bytes: int


class Rewriter:
    """Gives tensors of verified files in another form.

    Args:
        files: The source's.
        config: The source's.
        dtype: Type of what is not packed, and of what packed weights unpack to.
        quantization: None, "nf4" or "int8": the form of the layers' projections, for which
            bitsandbytes must be there.

    Attributes:
        form: How the new files hold packed weights; None when they are not packed.
    """

    def __init__(
        self, files: WeightFiles, config: ModelConfig, dtype: str, quantization: str | None
    ) -> None:
        self._files = files
        self._dtype = dtype
        self._weights = {f"{name}.weight": shape for name, shape in projections(config).items()}
        self.form: Prequantized | None = None
        if quantization is not None:
            self.form = Prequantized(quantization, nested=quantization == "nf4", skipped=(HEAD,))

    def weights(self) -> list[Weight]:
        """What there is to rewrite, in order."""
        parts: dict[str, list[str]] = {}
        tensors = self._files.tensors
        for name in tensors:
            module, _, part = name.rpartition(".")
            whole = name if self._files.packing is None or part == "weight" else f"{module}.weight"
            parts.setdefault(whole, []).append(name)
        return [
            Weight(
                name,
                tuple(dict.fromkeys(tensors[part].file for part in own)),
                sum(tensors[part].num_bytes for part in own),
                sum(form.num_bytes for form in self.forms(name).values()),
            )
            for name, own in parts.items()
        ]

    def forms(self, name: str) -> dict[str, TensorForm]:
        """The tensors that stand for a weight in the new files."""
        shape = self._weights.get(name)
        if shape is None or self.form is None:
            return {name: TensorForm(shape or self._files.tensors[name].shape, self._dtype)}
        module = name.removesuffix(".weight")
        if self.form.method == "int8":
            return {
                name: TensorForm(shape, "int8"),
                f"{module}.SCB": TensorForm(shape[:1], "float32"),
                f"{module}.weight_format": TensorForm((), "uint8"),
            }
        numbers = shape[0] * shape[1]
        blocks = -(-numbers // BLOCK)
        forms = {
            "weight": TensorForm((-(-numbers // 2), 1), "uint8"),
            "weight.absmax": TensorForm((blocks,), "uint8"),
            "weight.nested_absmax": TensorForm((-(-blocks // NESTED_BLOCK),), "float32"),
            "weight.nested_quant_map": TensorForm((NESTED_CODES,), "float32"),
            "weight.quant_map": TensorForm((CODES,), "float32"),
            STATE: TensorForm((STATE_BYTES,), "uint8"),
        }
        return {f"{module}.{part}": form for part, form in forms.items()}

    def open(self, files: tuple[Path, ...]) -> Mapping[str, Source | PackedSource]:
        """Open some of the source's files."""
        from aquila2_runtime.checkpoint.sources import open_sources
        from aquila2_runtime.checkpoint.watch import Watch

        tensors = {name: info for name, info in self._files.tensors.items() if info.file in files}
        part = dataclasses.replace(self._files, files=files, tensors=tensors)
        return open_sources(part, Watch(part, None))

    def read(
        self, sources: Mapping[str, Source | PackedSource], name: str
    ) -> dict[str, torch.Tensor]:
        """A weight's values in their new form, checked.

        Raises:
            WeightsError: A number does not fit the new type.
        """
        import torch

        from aquila2_runtime.checkpoint.packer import PACKERS
        from aquila2_runtime.checkpoint.watch import is_finite

        kind: torch.dtype = getattr(torch, self._dtype)
        converted = sources[name][...].to(kind)
        if not is_finite(converted):
            raise WeightsError(
                f"Tensor {name} has values that {self._dtype} cannot hold.",
                parameter=name,
                hint="Convert to bfloat16 (--dtype bfloat16).",
            )
        if self.form is None or name not in self._weights:
            return {name: converted}
        module = name.removesuffix(".weight")
        parts = PACKERS[self.form.method].pack(name, converted)
        return {f"{module}.{part}": tensor for part, tensor in parts.items()}
