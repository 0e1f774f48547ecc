"""Teaches vLLM the architectures of Aquila checkpoints, which it dropped after 0.24.

vLLM finds it by the entry point ``vllm.general_plugins`` in every one of its processes; nothing has
to be called. It is Llama's model that computes, and no code of a checkpoint's is run.
"""

from __future__ import annotations

from typing import Final

ARCHITECTURES: Final = ("AquilaForCausalLM", "AquilaModel")
_LLAMA: Final = "vllm.model_executor.models.llama:LlamaForCausalLM"


def register() -> None:
    """Register the model type ``aquila`` with transformers and both architectures with vLLM."""
    from vllm import ModelRegistry

    from aquila2_runtime.checkpoint.register import register as register_config

    register_config()
    for name in ARCHITECTURES:
        ModelRegistry.register_model(name, _LLAMA)
