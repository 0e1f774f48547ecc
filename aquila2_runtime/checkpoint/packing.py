"""Packing: how a checkpoint's 4-bit weights are stored (GPTQ or AWQ), as its files say it.

It knows layouts and shapes, and opens no weights. The settings stand in config.json
(``quantization_config``), or, in checkpoints of 2023, in a file of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from aquila2_runtime.checkpoint.expected import Expected
from aquila2_runtime.checkpoint.prequantized import is_prequantized
from aquila2_runtime.checkpoint.strict_json import read_json_object
from aquila2_runtime.errors import ConfigError

BITS: Final = 4
# Numbers in one 32-bit word.
PER_WORD: Final = 32 // BITS
_WORD: Final = ("int32",)
# Files that AutoGPTQ and AutoAWQ wrote before config.json told.
_OLD_FILES: Final = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
_MAX_BYTES: Final = 1 << 20
_MAX_GROUP: Final = 1 << 16


@dataclasses.dataclass(frozen=True, slots=True)
class Packing:
    """How 4-bit weights are stored.

    Attributes:
        method: "gptq" or "awq".
        group_size: Consecutive inputs that share a scale; None is all of them.
        zeros_less_one: Whether zero points are stored less one (AutoGPTQ's first format).
        act_order: Whether inputs may be assigned to groups in any order (GPTQ's ``desc_act``).
    """

    method: str
    group_size: int | None
    zeros_less_one: bool = False
    act_order: bool = False

    def groups(self, inputs: int) -> int:
        """How many groups a projection with so many inputs has."""
        return 1 if self.group_size is None else -(-inputs // self.group_size)

    def parts(self, out: int, inputs: int) -> dict[str, Expected]:
        """Names (after the projection's) and forms of the tensors that make up a weight."""
        groups = self.groups(inputs)
        parts = {
            "qzeros": Expected((groups, out // PER_WORD), _WORD),
            "scales": Expected((groups, out)),
        }
        if self.method == "awq":
            return {"qweight": Expected((inputs, out // PER_WORD), _WORD), **parts}
        # Without act-order, groups follow from the order.
        return {
            "qweight": Expected((inputs // PER_WORD, out), _WORD),
            **parts,
            "g_idx": Expected((inputs,), _WORD, optional=not self.act_order),
        }

    @property
    def label(self) -> str:
        """For people."""
        return f"4-bit {self.method.upper()}"


def read_packing(raw: Mapping[str, Any], path: Path | None = None) -> Packing | None:
    """Read how weights are packed; None when they are not, or bitsandbytes packed them.

    Args:
        raw: The contents of config.json.
        path: The checkpoint's directory, for settings in files of their own.

    Raises:
        ConfigError: The settings are incomplete, contradictory or of a layout not known here.
    """
    if raw.get("compression_config") is not None:
        raise ConfigError(
            "config.json has compression_config, which is not supported.",
            parameter="compression_config",
            value=raw["compression_config"],
            hint='Use the unquantized checkpoint with quantization="nf4" or "int8".',
        )
    settings = raw.get("quantization_config")
    method = None
    if settings is None and path is not None:
        for name, method_of_file in _OLD_FILES.items():
            if (path / name).exists():
                settings = read_json_object(path / name, max_bytes=_MAX_BYTES, error=ConfigError)
                method = method_of_file
                break
    if settings is None or is_prequantized(settings):
        return None
    if not isinstance(settings, dict):
        _fail(settings, "must be an object")
    method = settings.get("quant_method", method)
    if method == "gptq":
        return _gptq(settings)
    if method == "awq":
        return _awq(settings)
    _fail(settings, f"names quant_method={method!r:.60}; gptq, awq and bitsandbytes are known")


def check_sizes(sizes: Sequence[int], raw: Mapping[str, Any]) -> None:
    """Make sure that packed weights are whole words.

    Args:
        sizes: Of the projections' inputs and outputs.
        raw: The contents of config.json.

    Raises:
        ConfigError: They are not.
    """
    if any(size % PER_WORD for size in sizes):
        value = raw.get("hidden_size")
        raise ConfigError(
            f"config.json: hidden_size and the other sizes must be multiples of {PER_WORD} "
            f"(found {value!r:.100}).",
            parameter="hidden_size",
            value=value,
            hint="Fetch the checkpoint's own file again.",
        )


def _gptq(settings: Mapping[str, Any]) -> Packing:
    _check_bits(settings, settings.get("bits"))
    layout = settings.get("checkpoint_format", "gptq")
    if layout not in ("gptq", "gptq_v2"):
        _fail(settings, f"names checkpoint_format={layout!r:.60}; gptq and gptq_v2 are known")
    if settings.get("lm_head") or settings.get("dynamic"):
        _fail(settings, "packs the head, or layers in different ways, which is not supported")
    act_order = settings.get("desc_act", False)
    if not isinstance(act_order, bool):
        _fail(settings, "has a desc_act that is neither true nor false")
    return Packing("gptq", _group(settings, "group_size"), layout == "gptq", act_order)


def _awq(settings: Mapping[str, Any]) -> Packing:
    _check_bits(settings, settings.get("bits", settings.get("w_bit")))
    version = settings.get("version", "gemm")
    if not isinstance(version, str) or version.lower() != "gemm":
        _fail(settings, f"names version={version!r:.60}; gemm is known")
    if settings.get("zero_point", True) is not True:
        _fail(settings, "has no zero points, which is not supported")
    plain = settings.get("modules_to_not_convert")
    if plain not in (None, [], ["lm_head"]):
        _fail(settings, "leaves out modules_to_not_convert, which is not supported")
    name = "group_size" if "group_size" in settings else "q_group_size"
    return Packing("awq", _group(settings, name))


def _check_bits(settings: Mapping[str, Any], bits: object) -> None:
    if isinstance(bits, bool) or bits != BITS:
        _fail(settings, f"says bits={bits!r:.20}; {BITS} is supported")


def _group(settings: Mapping[str, Any], name: str) -> int | None:
    value = settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value <= _MAX_GROUP:
        _fail(settings, f"says {name}={value!r:.20}; it must be -1 or a multiple of {PER_WORD}")
    if value == -1:
        return None
    if value == 0 or value % PER_WORD:
        _fail(settings, f"says {name}={value}; it must be -1 or a multiple of {PER_WORD}")
    return value


def _fail(settings: object, problem: str) -> NoReturn:
    raise ConfigError(
        f"quantization_config {problem}.",
        parameter="quantization_config",
        value=settings,
        hint='Use the unquantized checkpoint with quantization="nf4" or "int8".',
    )
