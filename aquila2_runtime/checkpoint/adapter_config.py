"""AdapterConfig: what a LoRA directory's adapter_config.json says, checked. It opens no weights.

The file is peft's. Rank, scaling and targets are read; every feature that would change the model
in another way must be off. A key that is not known here must be empty, so that what a newer peft
adds is refused where it is used and ignored where it is not.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from aquila2_runtime.checkpoint.strict_json import read_json_object
from aquila2_runtime.errors import ConfigError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig

CONFIG_NAME: Final = "adapter_config.json"
# The projections of a decoder layer, and the block each belongs to.
PROJECTIONS: Final[Mapping[str, str]] = {
    "q_proj": "self_attn",
    "k_proj": "self_attn",
    "v_proj": "self_attn",
    "o_proj": "self_attn",
    "gate_proj": "mlp",
    "up_proj": "mlp",
    "down_proj": "mlp",
}
MAX_RANK: Final = 64
_MAX_BYTES: Final = 1 << 20
_MAX_ALPHA: Final = 1e6
# Keys that are read below, or that say nothing about how an answer is computed.
_READ: Final = frozenset(
    {
        "alpha_pattern",
        "base_model_name_or_path",
        "bias",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "use_rslora",
    }
)
# Ways to start training that leave the base weights as they are. The others (pissa, olora, corda,
# loftq, lora_ga) change them, so that their adapters mean nothing beside the released weights.
_STARTS: Final = ("gaussian", "eva", "orthogonal", "mica")


@dataclasses.dataclass(frozen=True, slots=True)
class AdapterConfig:
    """A LoRA adapter's facts.

    Attributes:
        rank: Columns of A, rows of B.
        scaling: What the product is multiplied by: alpha / rank, or alpha / sqrt(rank).
        targets: Projections it changes; None when the file gives a pattern instead of names.
        layers: Layers it changes; None for all.
        base: The model it was trained on, as the file names it; None when it does not.
    """

    rank: int
    scaling: float
    targets: tuple[str, ...] | None
    layers: tuple[int, ...] | None
    base: str | None


def read_adapter_config(path: Path, num_layers: int) -> AdapterConfig:
    """Read and check ``adapter_config.json``.

    Args:
        path: The adapter's directory.
        num_layers: Layers of the base model.

    Raises:
        ConfigError: The file is missing or malformed, or uses what is not supported; the key is
            named.
    """
    raw = read_json_object(path / CONFIG_NAME, max_bytes=_MAX_BYTES, error=ConfigError)
    _check_kind(raw)
    rank = raw.get("r")
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= MAX_RANK:
        _fail(raw, "r", f"must be an integer from 1 to {MAX_RANK}")
    alpha = raw.get("lora_alpha")
    if (
        isinstance(alpha, bool)
        or not isinstance(alpha, int | float)
        or not 0 < abs(alpha) <= _MAX_ALPHA
    ):
        _fail(raw, "lora_alpha", "must be a number other than 0")
    root = math.sqrt(rank) if _flag(raw, "use_rslora") else rank
    base = raw.get("base_model_name_or_path")
    return AdapterConfig(
        rank=rank,
        scaling=alpha / root,
        targets=_targets(raw),
        layers=_layers(raw, num_layers),
        # peft spells a base that it could not name "None".
        base=base if isinstance(base, str) and base not in ("", "None") else None,
    )


def projection_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Out and in features of each projection of a layer."""
    hidden, inner = config.hidden_size, config.intermediate_size
    query, key = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    return {
        "q_proj": (query, hidden),
        "k_proj": (key, hidden),
        "v_proj": (key, hidden),
        "o_proj": (hidden, query),
        "gate_proj": (inner, hidden),
        "up_proj": (inner, hidden),
        "down_proj": (hidden, inner),
    }


def _check_kind(raw: Mapping[str, Any]) -> None:
    if raw.get("peft_type") != "LORA":
        _fail(raw, "peft_type", "must be 'LORA'")
    if raw.get("task_type") not in (None, "CAUSAL_LM"):
        _fail(raw, "task_type", "must be 'CAUSAL_LM'")
    if raw.get("bias", "none") not in ("none", None):
        _fail(raw, "bias", "must be 'none'; trained biases are not supported")
    if _flag(raw, "fan_in_fan_out"):
        _fail(raw, "fan_in_fan_out", "must be false")
    start = raw.get("init_lora_weights")
    if not (start is None or isinstance(start, bool) or start in _STARTS):
        _fail(
            raw,
            "init_lora_weights",
            "names a start that changes the base weights",
            "Convert the adapter to plain LoRA with peft "
            "(save_pretrained(..., path_initial_model_for_weight_conversion=...)).",
        )
    for key in ("rank_pattern", "alpha_pattern"):
        if raw.get(key):
            _fail(raw, key, "is not supported; one rank and one alpha serve all layers")
    for key, value in raw.items():
        # Empty by any of JSON's ways to say so; 0 counts as a value.
        empty = value is None or value is False or value in ("", [], {})
        if key not in _READ and not empty:
            _fail(raw, key, "is not supported")


def _targets(raw: Mapping[str, Any]) -> tuple[str, ...] | None:
    value = raw.get("target_modules")
    if isinstance(value, str) and value:
        return None
    if not isinstance(value, list) or not value:
        _fail(raw, "target_modules", "must list the projections the adapter changes")
    names = []
    for item in value:
        name = item.rpartition(".")[2] if isinstance(item, str) else ""
        if name not in PROJECTIONS:
            _fail(
                raw,
                "target_modules",
                f"names {item!r:.60}; supported are {', '.join(PROJECTIONS)}",
            )
        names.append(name)
    # Full names or left-out modules: the tensors themselves then say which layers are meant.
    if any("." in item for item in value) or raw.get("exclude_modules"):
        return None
    return tuple(name for name in PROJECTIONS if name in names)


def _layers(raw: Mapping[str, Any], num_layers: int) -> tuple[int, ...] | None:
    value = raw.get("layers_to_transform")
    if value is None:
        return None
    listed = value if isinstance(value, list) else [value]
    for layer in listed:
        if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < num_layers:
            _fail(raw, "layers_to_transform", f"must hold layers from 0 to {num_layers - 1}")
    return tuple(sorted(set(listed)))


def _flag(raw: Mapping[str, Any], key: str) -> bool:
    value = raw.get(key)
    if value is not None and not isinstance(value, bool):
        _fail(raw, key, "must be true or false")
    return bool(value)


def _fail(
    raw: Mapping[str, Any],
    key: str,
    problem: str,
    hint: str = "Train or export the adapter as plain LoRA.",
) -> NoReturn:
    value = raw.get(key)
    raise ConfigError(
        f"{CONFIG_NAME}: {key} {problem} (found {value!r:.100}).",
        parameter=key,
        value=value,
        hint=hint,
    )
