"""ModelConfig: what config.json says about a checkpoint, checked. It opens no weights.

Fields as in the released ``config.json`` files (Llama's, under model type ``aquila``). Whatever
could run code or point elsewhere (``auto_map``, paths, ``transformers_weights``) is never used.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from aquila2_runtime.checkpoint.packing import Packing, check_sizes, read_packing
from aquila2_runtime.checkpoint.prequantized import Prequantized, read_prequantized
from aquila2_runtime.checkpoint.rope import context_length, read_rope
from aquila2_runtime.checkpoint.strict_json import read_json_object
from aquila2_runtime.errors import ConfigError

_log = logging.getLogger(__name__)

_MAX_BYTES: Final = 1 << 20
_MAX_ADDED_BYTES: Final = 4 << 20
_MODEL_TYPES: Final = ("aquila", "llama")
_ARCHITECTURES: Final = ("AquilaForCausalLM", "AquilaModel", "LlamaForCausalLM")
_DTYPES: Final = ("float16", "bfloat16", "float32")
# bos and eos by vocabulary size, for files that omit them: the defaults in the released code
# (1 and 2) are wrong for every released vocabulary.
_IDS: Final = {100_008: (100_006, 100_007), 143_973: (143_717, 143_718)}
_MAX_PARAMETERS: Final = 1_000_000_000_000
_WHOLE: Final = {
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 20,
    "num_hidden_layers": 1024,
    "num_attention_heads": 1024,
    "vocab_size": 1 << 21,
    "max_position_embeddings": 1 << 24,
}


@dataclasses.dataclass(frozen=True, slots=True)
class ModelConfig:
    """A checkpoint's facts.

    Attributes:
        hidden_size: Width of the hidden states.
        intermediate_size: Width inside the feed-forward blocks.
        num_layers: Decoder layers.
        num_heads: Query heads.
        num_kv_heads: Key and value heads; divides ``num_heads``.
        head_dim: Width of a head; even.
        vocab_size: Rows of the embedding.
        rms_norm_eps: Added to the mean square before the root.
        rope_theta: Base of the rotary frequencies.
        rope_factor: Linear position scaling; 1.0 is none.
        max_position: Tokens of context, by the rule of :func:`rope.context_length`.
        bos_token_id: Start token, or None.
        eos_token_id: Token that ends a text.
        pad_token_id: Padding token, or None.
        torch_dtype: "float16", "bfloat16" or "float32", as the file declares.
        tie_word_embeddings: Whether the head is the embedding.
        packing: How 4-bit weights are stored (GPTQ, AWQ); None when they are not packed.
        prequantized: How bitsandbytes packed the weights; None when it did not.
        raw: The file as it stands.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    rope_factor: float
    max_position: int
    bos_token_id: int | None
    eos_token_id: int
    pad_token_id: int | None
    torch_dtype: str
    tie_word_embeddings: bool
    packing: Packing | None = None
    prequantized: Prequantized | None = None
    raw: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def linear_parameters(self) -> int:
        """Weights inside the layers' projections, which quantization packs."""
        query, key = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        attention = self.hidden_size * (2 * query + 2 * key)
        return self.num_layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def num_parameters(self) -> int:
        """Weights in all: projections, norms, embedding, and the head unless it is tied."""
        norms = (2 * self.num_layers + 1) * self.hidden_size
        tables = 1 if self.tie_word_embeddings else 2
        return self.linear_parameters + norms + tables * self.vocab_size * self.hidden_size


def default_ids(vocab_size: int) -> tuple[int, int] | None:
    """Start and end ids of a released vocabulary, or None for any other size."""
    return _IDS.get(vocab_size)


def read_config(path: Path) -> ModelConfig:
    """Read and check ``config.json``, and that the small files beside it do not contradict it.

    Args:
        path: The checkpoint's directory.

    Raises:
        ConfigError: The file is missing, malformed, of another architecture, or contradictory.
    """
    raw = read_json_object(path / "config.json", max_bytes=_MAX_BYTES, error=ConfigError)
    config = parse_config(raw, path)
    _check_added_tokens(path, config)
    _compare_generation_config(path, config)
    return config


def parse_config(raw: dict[str, Any], path: Path | None = None) -> ModelConfig:
    """Check the contents of a config.json; nothing is allocated.

    Args:
        raw: The file's contents.
        path: The checkpoint's directory; None looks at no other file.

    Raises:
        ConfigError: As for :func:`read_config`.
    """
    _check_kind(raw)
    sizes = {name: _whole(raw, name, limit) for name, limit in _WHOLE.items()}
    heads, hidden = sizes["num_attention_heads"], sizes["hidden_size"]
    if hidden % heads:
        _fail(raw, "num_attention_heads", f"must divide hidden_size={hidden}")
    kv_heads = heads
    if raw.get("num_key_value_heads") is not None:
        kv_heads = _whole(raw, "num_key_value_heads", heads)
    if heads % kv_heads:
        _fail(raw, "num_key_value_heads", f"must divide num_attention_heads={heads}")
    head_dim = hidden // heads
    if raw.get("head_dim") is not None:
        head_dim = _whole(raw, "head_dim", 1024)
    if head_dim % 2 or head_dim > 1024:
        key = "head_dim" if raw.get("head_dim") is not None else "num_attention_heads"
        _fail(raw, key, f"gives heads of width {head_dim}; it must be even and at most 1024")
    rope = read_rope(raw)
    bos, eos, pad = _ids(raw, sizes["vocab_size"])
    config = ModelConfig(
        hidden_size=hidden,
        intermediate_size=sizes["intermediate_size"],
        num_layers=sizes["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=sizes["vocab_size"],
        rms_norm_eps=_epsilon(raw),
        rope_theta=rope.theta,
        rope_factor=rope.factor,
        max_position=context_length(sizes["max_position_embeddings"], rope.factor),
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=pad,
        torch_dtype=_dtype(raw),
        tie_word_embeddings=_flag(raw, "tie_word_embeddings"),
        packing=read_packing(raw, path),
        prequantized=read_prequantized(raw),
        raw=raw,
    )
    if config.packing is not None:
        projected = (config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim)
        check_sizes((config.hidden_size, config.intermediate_size, *projected), raw)
    if config.num_parameters > _MAX_PARAMETERS:
        _fail(raw, "hidden_size", f"and the other sizes make {config.num_parameters} parameters")
    return config


def _check_kind(raw: Mapping[str, Any]) -> None:
    """Refuse anything that is not a Llama-shaped decoder."""
    if raw.get("model_type") not in _MODEL_TYPES:
        _fail(raw, "model_type", "must be 'aquila' or 'llama'")
    architectures = raw.get("architectures")
    if architectures is not None:
        listed = architectures if isinstance(architectures, list) else [architectures]
        if len(listed) != 1 or listed[0] not in _ARCHITECTURES:
            _fail(raw, "architectures", "must name AquilaForCausalLM or LlamaForCausalLM")
    if raw.get("hidden_act", "silu") != "silu":
        _fail(raw, "hidden_act", "must be 'silu'")
    for key in ("attention_bias", "mlp_bias"):
        if _flag(raw, key):
            _fail(raw, key, "must be false; Aquila2 has no biases")
    if raw.get("partial_rotary_factor") not in (None, 1, 1.0):
        _fail(raw, "partial_rotary_factor", "must be 1")


def _ids(raw: Mapping[str, Any], vocab_size: int) -> tuple[int | None, int, int | None]:
    known = default_ids(vocab_size)
    bos = _id(raw, "bos_token_id", vocab_size)
    eos = _id(raw, "eos_token_id", vocab_size)
    pad = _id(raw, "pad_token_id", vocab_size)
    if eos is None:
        if known is None:
            _fail(raw, "eos_token_id", "is missing, and this vocabulary's end token is not known")
        eos = known[1]
    return known[0] if bos is None and known else bos, eos, pad


def _id(raw: Mapping[str, Any], key: str, vocab_size: int) -> int | None:
    value = raw.get(key)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < vocab_size:
        _fail(raw, key, f"must be one id from 0 to {vocab_size - 1}")
    return value


def _whole(raw: Mapping[str, Any], key: str, largest: int) -> int:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        _fail(raw, key, f"must be an integer from 1 to {largest}")
    return value


def _epsilon(raw: Mapping[str, Any]) -> float:
    value = raw.get("rms_norm_eps", 1e-5)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 0.1:
        _fail(raw, "rms_norm_eps", "must be above 0 and at most 0.1")
    return float(value)


def _dtype(raw: Mapping[str, Any]) -> str:
    stated = {
        str(raw[key]).removeprefix("torch.")
        for key in ("torch_dtype", "dtype")
        if raw.get(key) is not None
    }
    if not stated:
        return "float32"
    if len(stated) > 1 or not stated <= set(_DTYPES):
        _fail(raw, "torch_dtype", f"must be one of {', '.join(_DTYPES)}")
    return stated.pop()


def _flag(raw: Mapping[str, Any], key: str) -> bool:
    value = raw.get(key)
    if value is not None and not isinstance(value, bool):
        _fail(raw, key, "must be true or false")
    return bool(value)


def _check_added_tokens(path: Path, config: ModelConfig) -> None:
    """The embedding must have a row for every token that was added to the vocabulary."""
    file = path / "added_tokens.json"
    if not file.exists():
        return
    added = read_json_object(file, max_bytes=_MAX_ADDED_BYTES, error=ConfigError)
    for token, number in added.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            _fail(added, token, "must have a token id as its value", name="added_tokens.json")
        if number >= config.vocab_size:
            raise ConfigError(
                f"vocab_size={config.vocab_size} in config.json is too small: added_tokens.json "
                f"gives {token!r:.60} the id {number}.",
                parameter="vocab_size",
                value=config.vocab_size,
                hint="Files of two checkpoints are mixed.",
            )


def _compare_generation_config(path: Path, config: ModelConfig) -> None:
    """generation_config.json changes nothing; that it disagrees is worth a line in the log."""
    file = path / "generation_config.json"
    if not file.exists():
        return
    stated = read_json_object(file, max_bytes=_MAX_BYTES, error=ConfigError)
    eos = stated.get("eos_token_id")
    if eos is not None and eos not in (config.eos_token_id, [config.eos_token_id]):
        _log.warning(
            "generation_config.json says eos_token_id=%.60r; config.json's %d is used.",
            eos,
            config.eos_token_id,
        )


def _fail(raw: Mapping[str, Any], key: str, problem: str, *, name: str = "config.json") -> NoReturn:
    value = raw.get(key)
    raise ConfigError(
        f"{name}: {key} {problem} (found {value!r:.100}).",
        parameter=key,
        value=value,
        hint="Fetch the checkpoint's own file again.",
    )
