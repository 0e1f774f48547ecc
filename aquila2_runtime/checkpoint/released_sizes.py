"""The sizes of the released models, to reckon with before a download. Files that are there decide.

From the ``config.json`` of each repository's main branch; ``AquilaChat2-70B-Expr``'s could not be
read, and its base model's stands for it.
"""

from __future__ import annotations

from typing import Any, Final

from aquila2_runtime.catalog import find_released
from aquila2_runtime.checkpoint.config import ModelConfig, parse_config

_SIZES: Final[dict[str, dict[str, Any]]] = {
    "7B": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "34B": {
        "hidden_size": 6144,
        "intermediate_size": 24576,
        "num_hidden_layers": 60,
        "num_attention_heads": 48,
        "num_key_value_heads": 8,
    },
    "70B": {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
}
_FLOAT16: Final = ("AquilaChat2-7B", "AquilaChat2-7B-16K")
_VOCABULARY: Final = {"Aquila2-7B": 143_973, "Aquila2-34B": 143_973}


def released_config(model: str) -> ModelConfig | None:
    """What config.json of a released model says of its sizes.

    Args:
        model: A name, as for loading.

    Returns:
        The sizes, or None for any other model and for the one that ships with the package.
    """
    entry = find_released(model)
    if entry is None or entry.embedded:
        return None
    size = entry.name.split("-")[1]
    return parse_config(
        {
            **_SIZES[size],
            "model_type": "aquila",
            "architectures": ["AquilaForCausalLM"],
            "hidden_act": "silu",
            "vocab_size": _VOCABULARY.get(entry.name, 100_008),
            "max_position_embeddings": entry.context_length,
            "rms_norm_eps": 1e-5,
            "torch_dtype": "float16" if entry.name in _FLOAT16 else "bfloat16",
        }
    )
