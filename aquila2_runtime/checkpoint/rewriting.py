"""Rewriting: what a checkpoint's tensors become in another type, or packed. It writes no file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aquila2_runtime.checkpoint.expected import projections
from aquila2_runtime.checkpoint.prequantized import HEAD, Prequantized
from aquila2_runtime.checkpoint.shard_writer import TensorForm
from aquila2_runtime.errors import MissingDependencyError, WeightsError

if TYPE_CHECKING:
    import torch

    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.checkpoint.sources import PackedSource, Source
    from aquila2_runtime.checkpoint.verify import WeightFiles

# As bitsandbytes packs: numbers that share a scale, and scales that share a second one.
_BLOCK: Final = 64
_NESTED_BLOCK: Final = 256
# Bytes of a weight's description. It is padded, so that a file's header can be written before any
# weight is packed: its length would depend on a number that packing finds.
_STATE_BYTES: Final = 256
_CODES: Final = 16
_NESTED_CODES: Final = 256


class Rewriter:
    """Gives tensors of verified files in another form.

    Args:
        files: The source's.
        config: The source's.
        dtype: Type of what is not packed, and of what packed weights unpack to.
        quantization: None, "nf4" or "int8": the form of the layers' projections.

    Attributes:
        form: How the new files hold packed weights; None when they are not packed.

    Raises:
        MissingDependencyError: bitsandbytes is not installed.
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
            _require_bitsandbytes(quantization)

    def weights(self) -> list[tuple[tuple[Path, ...], str, int]]:
        """What there is to rewrite, in order: its files, its name, and its bytes there."""
        parts: dict[str, list[str]] = {}
        for name in self._files.tensors:
            module, _, part = name.rpartition(".")
            whole = name if self._files.packing is None or part == "weight" else f"{module}.weight"
            parts.setdefault(whole, []).append(name)
        tensors = self._files.tensors
        return [
            (
                tuple(dict.fromkeys(tensors[part].file for part in own)),
                name,
                sum(tensors[part].num_bytes for part in own),
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
        blocks = -(-numbers // _BLOCK)
        return {
            name: TensorForm((-(-numbers // 2), 1), "uint8"),
            f"{name}.absmax": TensorForm((blocks,), "uint8"),
            f"{name}.nested_absmax": TensorForm((-(-blocks // _NESTED_BLOCK),), "float32"),
            f"{name}.nested_quant_map": TensorForm((_NESTED_CODES,), "float32"),
            f"{name}.quant_map": TensorForm((_CODES,), "float32"),
            f"{name}.quant_state.bitsandbytes__nf4": TensorForm((_STATE_BYTES,), "uint8"),
        }

    def open(self, files: tuple[Path, ...]) -> Mapping[str, Source | PackedSource]:
        """Open some of the source's files."""
        from aquila2_runtime.checkpoint.sources import Watch, open_sources

        tensors = {name: info for name, info in self._files.tensors.items() if info.file in files}
        part = dataclasses.replace(self._files, files=files, tensors=tensors)
        return open_sources(part, Watch(part, None), own=False)

    def read(
        self, sources: Mapping[str, Source | PackedSource], name: str
    ) -> dict[str, torch.Tensor]:
        """A weight's values in their new form, checked.

        Raises:
            WeightsError: A number does not fit the new type.
        """
        import torch

        from aquila2_runtime.checkpoint.sources import is_finite

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
        return _packed(name, converted, self.form.method)


def _packed(name: str, weight: torch.Tensor, method: str) -> dict[str, torch.Tensor]:
    """A weight as bitsandbytes packs it when transformers loads it that way."""
    import torch
    from bitsandbytes import functional

    bnb: Any = functional  # untyped
    if method == "int8":
        # bitsandbytes packs from 16-bit floats; rows beyond their range would be lost.
        packed, scales, _ = bnb.int8_vectorwise_quant(weight.to(torch.float16).contiguous())
        module = name.removesuffix(".weight")
        return {
            name: packed,
            f"{module}.SCB": scales.reshape(-1),
            f"{module}.weight_format": torch.zeros((), dtype=torch.uint8),  # by rows
        }
    packed, state = bnb.quantize_4bit(
        weight.contiguous(), blocksize=_BLOCK, compress_statistics=True, quant_type="nf4"
    )
    described = {
        "quant_type": state.quant_type,
        "blocksize": state.blocksize,
        "dtype": str(state.dtype).removeprefix("torch."),
        "shape": list(state.shape),
        "nested_blocksize": state.state2.blocksize,
        "nested_dtype": str(state.state2.dtype).removeprefix("torch."),
        "nested_offset": float(state.offset),
    }
    text = json.dumps(described).encode().ljust(_STATE_BYTES)
    return {
        name: packed,
        f"{name}.absmax": state.absmax,
        f"{name}.nested_absmax": state.state2.absmax,
        f"{name}.nested_quant_map": state.state2.code,
        f"{name}.quant_map": state.code,
        f"{name}.quant_state.bitsandbytes__nf4": torch.tensor(list(text), dtype=torch.uint8),
    }


def _require_bitsandbytes(quantization: str) -> None:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            f'quantization="{quantization}" needs the bitsandbytes package.',
            parameter="quantization",
            value=quantization,
            hint="Install it: pip install 'aquila2[nf4]'.",
        ) from None
