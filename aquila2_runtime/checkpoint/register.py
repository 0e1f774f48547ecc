"""Teaching transformers' Auto classes the model type ``aquila``. It loads nothing.

Aquila2's architecture is Llama's, so the classes are Llama's under Aquila's names; the released
remote code is never run, whatever ``auto_map`` says.
"""

from __future__ import annotations

from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Tokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
)

from aquila2_runtime.checkpoint.config import ModelConfig, default_ids
from aquila2_runtime.checkpoint.rope import context_length


class AquilaConfig(LlamaConfig):
    """Llama's configuration under the model type ``aquila``.

    Where a file omits them, the start and end ids are those of its vocabulary (the defaults of the
    released code, 1 and 2, are wrong for every released vocabulary).
    """

    model_type = "aquila"

    rms_norm_eps: float = 1e-5
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in what the released files may leave out."""
        known = default_ids(self.vocab_size)
        if known is not None:
            if self.bos_token_id is None:
                self.bos_token_id = known[0]
            if self.eos_token_id is None:
                self.eos_token_id = known[1]
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call, unused-ignore]

    @property
    def context_length(self) -> int:
        """Tokens of context, by the rule of :func:`rope.context_length`."""
        rope = self.rope_parameters or {}
        factor = float(rope.get("factor") or 1.0)
        return context_length(self.max_position_embeddings, factor)

    @classmethod
    def of(cls, config: ModelConfig) -> AquilaConfig:
        """Build from checked facts only; nothing else of config.json is passed on."""
        rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
        if config.rope_factor != 1.0:
            rope |= {"rope_type": "linear", "factor": config.rope_factor}
        return cls(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            max_position_embeddings=config.raw.get("max_position_embeddings", config.max_position),
            rms_norm_eps=config.rms_norm_eps,
            rope_parameters=rope,
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
            tie_word_embeddings=config.tie_word_embeddings,
            architectures=["AquilaForCausalLM"],
        )


class AquilaModel(LlamaModel):
    """Llama's decoder under Aquila's name."""

    config_class = AquilaConfig


class AquilaForCausalLM(LlamaForCausalLM):
    """Llama with its language-model head under Aquila's name."""

    config_class = AquilaConfig


def register() -> None:
    """Make transformers' Auto classes read ``aquila`` checkpoints without remote code.

    Calling it again changes nothing.
    """
    AutoConfig.register("aquila", AquilaConfig, exist_ok=True)
    AutoModel.register(AquilaConfig, AquilaModel, exist_ok=True)
    AutoModelForCausalLM.register(AquilaConfig, AquilaForCausalLM, exist_ok=True)
    AutoTokenizer.register(AquilaConfig, tokenizer_class=GPT2Tokenizer, exist_ok=True)
