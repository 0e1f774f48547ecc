"""RuntimeInfo: what was loaded and how, each choice with its reason. It decides nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeInfo:
    """Static facts about a loaded runtime; ``Aquila2Runtime.stats()`` has the moving ones.

    Attributes:
        model: The model's name.
        revision: Commit of the checkpoint on its hub; None for a local directory.
        source: "local", "embedded", "huggingface" or "modelscope".
        template: Chat template in force; None when the checkpoint has none.
        context_length: Tokens the checkpoint was made for.
        max_model_len: Tokens of prompt and answer together allowed here.
        device: Where the model runs; several devices in the order of the layers, by commas.
        dtype: Type of weights and hidden states.
        quantization: "nf4", "int8" or None.
        attention: The attention implementation.
        cuda_graphs: Whether decoding steps are captured and replayed.
        kv_cache_dtype: Type of keys and values.
        kv_cache_bytes: Memory set aside for keys and values.
        kv_cache_tokens: Tokens that memory holds.
        block_size: Tokens per KV block.
        weight_bytes: Memory of the weights.
        max_num_seqs: Most requests computed at once.
        max_step_tokens: Most tokens computed in one step; longer prompts are read in chunks.
        max_prefill_beside_decode: Most prompt tokens of a step in which a streamed answer goes on:
            a long prompt then takes longer itself, and holds its readers up less. On CPU they are
            fewer, but at least 32, where more would take over about 0.15 s.
        prefix_cache: Whether shared prefixes are computed once.
        speculation: How next tokens are guessed: "ngram", or None.
        vocab_size: Rows of the embedding; ids lie below it.
        adapters: LoRA adapters that requests may name.
        merged_adapter: The one that is merged into the weights; None when none is.
        reasons: Why each choice was made, by attribute name.
    """

    model: str
    revision: str | None
    source: str
    template: str | None
    context_length: int
    max_model_len: int
    device: str
    dtype: str
    quantization: str | None
    attention: str
    cuda_graphs: bool
    kv_cache_dtype: str
    kv_cache_bytes: int
    kv_cache_tokens: int
    block_size: int
    weight_bytes: int
    max_num_seqs: int
    max_step_tokens: int
    max_prefill_beside_decode: int
    prefix_cache: bool
    speculation: str | None
    vocab_size: int
    adapters: tuple[str, ...]
    merged_adapter: str | None
    reasons: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON."""
        return {**dataclasses.asdict(self), "reasons": dict(self.reasons)}

    def __str__(self) -> str:
        """Return one line per fact, with its reason where there is one."""
        lines = []
        for name, value in self.to_dict().items():
            if name != "reasons":
                reason = self.reasons.get(name)
                lines.append(f"{name}: {value}" + (f"  ({reason})" if reason else ""))
        return "\n".join(lines)
