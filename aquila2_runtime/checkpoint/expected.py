"""Which tensors a checkpoint has, and of what shapes and types. It opens no file."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig

FLOATS: Final = ("float16", "bfloat16", "float32")
# An axis whose length something else decides.
ANY: Final = -1


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """What a tensor must be.

    Attributes:
        shape: Its shape; ``ANY`` stands for one axis of any length.
        dtypes: The types it may have.
        optional: Whether it may be left out.
    """

    shape: tuple[int, ...]
    dtypes: tuple[str, ...] = FLOATS
    optional: bool = False

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape is as expected."""
        return len(shape) == len(self.shape) and all(
            wanted in (ANY, size) for wanted, size in zip(self.shape, shape, strict=True)
        )


def projections(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of every layer's projections, by the module's name."""
    hidden, inner = config.hidden_size, config.intermediate_size
    query, key = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    shapes = {
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key, hidden),
        "self_attn.v_proj": (key, hidden),
        "self_attn.o_proj": (hidden, query),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    return {
        f"model.layers.{layer}.{module}": shape
        for layer in range(config.num_layers)
        for module, shape in shapes.items()
    }


def prequantized_projections(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """The projections that bitsandbytes packed; none of any other checkpoint."""
    form = config.prequantized
    if form is None:
        return {}
    return {name: shape for name, shape in projections(config).items() if form.packs(name)}


def expected_tensors(config: ModelConfig) -> dict[str, Expected]:
    """Every tensor a checkpoint of this configuration has, by name.

    The head counts as expected even where it is tied; then it may be absent.
    """
    table = Expected((config.vocab_size, config.hidden_size))
    norm = Expected((config.hidden_size,))
    tied = dataclasses.replace(table, optional=config.tie_word_embeddings)
    tensors = {
        "model.embed_tokens.weight": table,
        "model.norm.weight": norm,
        "lm_head.weight": tied,
    }
    packed = prequantized_projections(config)
    for module, (out, inputs) in projections(config).items():
        if config.packing is not None:
            parts = config.packing.parts(out, inputs)
        elif config.prequantized is not None and module in packed:
            parts = config.prequantized.parts(out, inputs)
        else:
            parts = {"weight": Expected((out, inputs))}
        tensors |= {f"{module}.{part}": expected for part, expected in parts.items()}
    for layer in range(config.num_layers):
        tensors[f"model.layers.{layer}.input_layernorm.weight"] = norm
        tensors[f"model.layers.{layer}.post_attention_layernorm.weight"] = norm
    return tensors
