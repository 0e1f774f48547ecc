"""Prequantized: how a directory that bitsandbytes saved holds its weights. It opens no model.

transformers writes such directories after a load with ``BitsAndBytesConfig``. Beside every packed
weight lie its scales and, for four bits, a small JSON text (as bytes, see ``quant_state``) that
says how they belong together.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from aquila2_runtime.checkpoint.expected import ANY, Expected
from aquila2_runtime.errors import (
    ConfigError,
    InvalidLoadOptionError,
    MissingDependencyError,
)

METHODS: Final = {"nf4": "bitsandbytes NF4", "int8": "bitsandbytes int8"}
STATE: Final = "weight.quant_state.bitsandbytes__nf4"
HEAD: Final = "lm_head"
# As bitsandbytes packs: numbers that share a scale, and scales that share a second one.
BLOCK: Final = 64
NESTED_BLOCK: Final = 256
# Bytes of a weight's description. It is padded, so that a file's header can be written before any
# weight is packed: its length would depend on a number that packing finds.
STATE_BYTES: Final = 256
# Numbers in the tables of 4-bit and of 8-bit codes.
CODES: Final = 16
NESTED_CODES: Final = 256
_MODULE: Final = re.compile(r"\w+(\.\w+)*", re.ASCII)
_MAX_SKIPPED: Final = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Prequantized:
    """What ``quantization_config`` says about weights that bitsandbytes packed.

    Attributes:
        method: "nf4" or "int8".
        nested: Whether the scales of 4-bit weights are quantized as well.
        threshold: From which magnitude on inputs are outliers to 8-bit weights.
        skipped: Names of modules that are not packed, the head among them; None is the head alone.
    """

    method: str
    nested: bool = False
    threshold: float = 6.0
    skipped: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        """For people."""
        return METHODS[self.method]

    def packs(self, module: str) -> bool:
        """Whether a module's weight is packed: it is not skipped by its start or its end."""
        return not any(
            module == name or module.startswith(f"{name}.") or module.endswith(name)
            for name in self.skipped or ()
        )

    def parts(self, out: int, inputs: int) -> dict[str, Expected]:
        """Names (after the projection's) and forms of the tensors that make up a weight."""
        if self.method == "int8":
            return {
                "weight": Expected((out, inputs), ("int8",)),
                "SCB": Expected((out,), ("float32",)),
                "weight_format": Expected((), ("uint8",), optional=True),
            }
        parts = {
            "weight": Expected((-(-out * inputs // 2), 1), ("uint8",)),
            "weight.absmax": Expected((ANY,), ("uint8" if self.nested else "float32",)),
            "weight.quant_map": Expected((CODES,), ("float32",)),
            STATE: Expected((ANY,), ("uint8",)),
        }
        if self.nested:
            parts["weight.nested_absmax"] = Expected((ANY,), ("float32",))
            parts["weight.nested_quant_map"] = Expected((NESTED_CODES,), ("float32",))
        return parts

    def settings(self, compute_dtype: Any) -> Any:
        """The ``BitsAndBytesConfig`` to load it with.

        Args:
            compute_dtype: Torch type that is multiplied in.
        """
        from transformers import BitsAndBytesConfig

        skipped = None if self.skipped is None else list(self.skipped)
        if self.method == "int8":
            return BitsAndBytesConfig(
                load_in_8bit=True, llm_int8_threshold=self.threshold, llm_int8_skip_modules=skipped
            )
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=self.nested,
            bnb_4bit_compute_dtype=compute_dtype,
            llm_int8_skip_modules=skipped,
        )


def require_bitsandbytes(quantization: str) -> None:
    """Make sure that what packs weights is there.

    Args:
        quantization: The form that is asked for, one of ``METHODS``.

    Raises:
        InvalidLoadOptionError: The form is not known.
        MissingDependencyError: bitsandbytes is not installed.
    """
    if quantization not in METHODS:
        raise InvalidLoadOptionError(
            f"quantization={quantization!r:.60} is not known.",
            parameter="quantization",
            value=quantization,
            hint=f"Known: {', '.join(METHODS)}.",
        )
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            f'quantization="{quantization}" needs the bitsandbytes package.',
            parameter="quantization",
            value=quantization,
            hint="Install it: pip install 'aquila2[nf4]'.",
        ) from None


def is_prequantized(settings: object) -> bool:
    """Whether a ``quantization_config`` is bitsandbytes'; the first ones did not name it."""
    if not isinstance(settings, Mapping):
        return False
    method = settings.get("quant_method")
    if method is None:
        return any(settings.get(f"load_in_{bits}bit") is True for bits in (4, 8))
    return bool(method == "bitsandbytes")


def read_prequantized(raw: Mapping[str, Any]) -> Prequantized | None:
    """Read how bitsandbytes packed the weights; None when it did not.

    Args:
        raw: The contents of config.json.

    Raises:
        ConfigError: The settings are contradictory, or of a form not known here.
    """
    settings = raw.get("quantization_config")
    if not isinstance(settings, Mapping) or not is_prequantized(settings):
        return None
    four, eight = (_flag(settings, f"load_in_{bits}bit") for bits in (4, 8))
    if four == eight:
        _refuse(settings, "must set exactly one of load_in_4bit and load_in_8bit")
    skipped = _skipped(settings)
    if eight:
        if _flag(settings, "llm_int8_has_fp16_weight"):
            _refuse(settings, "keeps 16-bit weights (llm_int8_has_fp16_weight)")
        threshold = settings.get("llm_int8_threshold", 6.0)
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or threshold < 0:
            _refuse(settings, f"says llm_int8_threshold={threshold!r:.20}")
        return Prequantized("int8", threshold=float(threshold), skipped=skipped)
    kind = settings.get("bnb_4bit_quant_type", "fp4")
    if kind != "nf4":
        _refuse(settings, f"names bnb_4bit_quant_type={kind!r:.20}; nf4 is known")
    storage = settings.get("bnb_4bit_quant_storage", "uint8")
    if storage != "uint8":
        _refuse(settings, f"stores words as {storage!r:.20}; uint8 is known")
    nested = _flag(settings, "bnb_4bit_use_double_quant")
    return Prequantized("nf4", nested=nested, skipped=skipped)


def settle_form(
    form: Prequantized | None, quantization: str | None, merge: str | None = None
) -> str | None:
    """Settle in which form weights are held: that of the files, if bitsandbytes packed them.

    Args:
        form: How bitsandbytes packed the files; None when it did not.
        quantization: The form that is asked for.
        merge: Name of the adapter that is to be merged.

    Returns:
        "nf4", "int8", or None.

    Raises:
        InvalidLoadOptionError: Another form than the files', or an adapter to be merged into it.
    """
    if form is None:
        return quantization
    if quantization not in (None, form.method):
        raise InvalidLoadOptionError(
            f"quantization={quantization!r}, but this checkpoint holds {form.label} weights.",
            parameter="quantization",
            value=quantization,
            hint="Leave it out, or load the unquantized checkpoint.",
        )
    if merge is not None:
        raise InvalidLoadOptionError(
            f"merge_adapter={merge!r:.80}, but this checkpoint holds {form.label} weights, which "
            "nothing can be added to.",
            parameter="merge_adapter",
            value=merge,
            hint="Leave it out: adapters are computed beside the weights. Or merge it into the "
            "unquantized checkpoint.",
        )
    return form.method


def _skipped(settings: Mapping[str, Any]) -> tuple[str, ...] | None:
    names = settings.get("llm_int8_skip_modules")
    if names is None:
        return None
    if not isinstance(names, list) or len(names) > _MAX_SKIPPED:
        _refuse(settings, "has an llm_int8_skip_modules that is no list of module names")
    for name in names:
        # Only names: transformers would take anything else for a pattern.
        if not isinstance(name, str) or not _MODULE.fullmatch(name):
            _refuse(settings, f"skips {name!r:.60}, which is no module's name")
    if HEAD not in names:
        _refuse(settings, "packs the head (llm_int8_skip_modules is without lm_head)")
    return tuple(names)


def _flag(settings: Mapping[str, Any], key: str) -> bool:
    value = settings.get(key, False)
    if not isinstance(value, bool):
        _refuse(settings, f"has a {key} that is neither true nor false")
    return value


def _refuse(settings: object, problem: str) -> NoReturn:
    raise ConfigError(
        f"quantization_config {problem}.",
        parameter="quantization_config",
        value=settings,
        hint='Use the unquantized checkpoint with quantization="nf4" or "int8".',
    )
