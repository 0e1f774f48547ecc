"""Decoder: the Llama forward pass over paged keys and values. It knows no requests, no text.

Aquila2's architecture is Llama's: RMSNorm before each block, rotary positions on queries and keys
(the halves of a head rotated against each other), grouped key/value heads, SwiGLU, no biases.
The norm multiplies in fp32 and rounds once, as the released Aquila code does.

On CPU everything between the projections is fp32: the sum over the layers, norms, rotation and
attention. Mixed steps would cost conversions there, and one product on CPU outweighs all of it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from aquila2_runtime.engine.linear import Projection, linear, take_linear

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.engine.attention.base import Attention
    from aquila2_runtime.engine.attention.plan import AttentionPlan


@dataclasses.dataclass(frozen=True, slots=True)
class _Layer:
    input_norm: torch.Tensor
    qkv: Projection
    output: Projection
    post_norm: torch.Tensor
    gate_up: Projection
    down: Projection


class Decoder:
    """The model's forward pass, its projections fused where their weights can be.

    Args:
        model: A loaded ``LlamaForCausalLM``. Its projections are taken over and fused layer by
            layer (the module is emptied as it goes, so memory never holds two copies).
        config: The checkpoint's facts.
        max_positions: Positions the rotary table covers.
    """

    def __init__(self, model: torch.nn.Module, config: ModelConfig, max_positions: int) -> None:
        self.config = config
        inner = model.get_submodule("model")
        self._embedding = _parameter(inner, "embed_tokens.weight")
        self._wide = self._embedding.device.type == "cpu"
        self._final_norm = self._norm_weight(inner, "norm.weight")
        self._layers = [
            self._take_layer(inner.get_submodule(f"layers.{index}"))
            for index in range(config.num_layers)
        ]
        self._head = _take_head(model, self._embedding)
        device = self._embedding.device
        self._cos, self._sin = rotary_table(config, max_positions, device)
        self._eps = torch.full((1, 1), config.rms_norm_eps, device=device)

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self._embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, and of what the projections multiply."""
        return self._embedding.dtype

    @torch.inference_mode()
    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor, attention: Attention, plan: AttentionPlan
    ) -> torch.Tensor:
        """Compute a step's hidden states and store its keys and values.

        Args:
            ids: Token ids, all requests' rows in one line. ``[rows]``.
            positions: Their positions. ``[rows]``.
            attention: Keys, values and how they are read.
            plan: What each row may see.

        Returns:
            Hidden states before the final norm. ``[rows, hidden]``.
        """
        config = self.config
        rows = ids.shape[0]
        cos, sin = self._cos[positions, None, :], self._sin[positions, None, :]
        turned = config.num_heads + config.num_kv_heads
        split = [config.num_heads, config.num_kv_heads, config.num_kv_heads]
        hidden = F.embedding(ids, self._embedding)
        if self._wide:
            hidden = hidden.float()
        for index, layer in enumerate(self._layers):
            qkv = layer.qkv(self._norm(hidden, layer.input_norm)).view(rows, -1, config.head_dim)
            if self._wide:
                qkv = qkv.float()
            rotate_(qkv.narrow(1, 0, turned), cos, sin)
            query, key, value = qkv.split(split, dim=1)
            mixed = attention.attend(index, query, key, value, plan)
            # The sum is this step's own tensor, so it may be added to in place.
            hidden.add_(layer.output(mixed.reshape(rows, -1).to(self.dtype)))
            gate_up = layer.gate_up(self._norm(hidden, layer.post_norm))
            gate, up = gate_up.chunk(2, dim=-1)
            hidden.add_(layer.down(F.silu(gate).mul_(up)))
        return hidden

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Turn hidden states ``[rows, hidden]`` into fp32 logits ``[rows, vocab]``."""
        return self._head(self._norm(hidden, self._final_norm)).float()

    def _norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        wide = hidden.float()
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        # 1 / sqrt(length^2 / size + eps), on one number a row.
        scale = torch.addcmul(self._eps, length, length, value=1 / weight.shape[0]).rsqrt_()
        return torch.mul(wide * scale, weight).to(self.dtype)

    def _norm_weight(self, module: torch.nn.Module, name: str) -> torch.Tensor:
        return _parameter(module, name).float()

    def _take_layer(self, layer: torch.nn.Module) -> _Layer:
        attention, mlp = layer.get_submodule("self_attn"), layer.get_submodule("mlp")
        return _Layer(
            input_norm=self._norm_weight(layer, "input_layernorm.weight"),
            qkv=take_linear(attention, "q_proj", "k_proj", "v_proj"),
            output=take_linear(attention, "o_proj"),
            post_norm=self._norm_weight(layer, "post_attention_layernorm.weight"),
            gate_up=take_linear(mlp, "gate_proj", "up_proj"),
            down=take_linear(mlp, "down_proj"),
        )


def rotary_table(
    config: ModelConfig, max_positions: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of every position. Each ``[max_positions, head_dim / 2]``, fp32.

    Linear scaling divides positions by the factor (Chen et al., 2023, position interpolation).
    """
    half = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    inverse = 1.0 / (config.rope_theta**half) / config.rope_factor
    angles = torch.outer(torch.arange(max_positions).float(), inverse)
    return angles.cos().to(device), angles.sin().to(device)


def rotate_(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Rotate ``[rows, heads, head_dim]`` by ``[rows, 1, head_dim / 2]``, in place and in fp32."""
    first, second = states.chunk(2, dim=-1)
    if states.dtype != torch.float32:
        low, high = first.float(), second.float()
        first.copy_(low * cos - high * sin)
        second.copy_(high * cos + low * sin)
        return
    crossed = first * sin
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).add_(crossed)


def _take_head(model: torch.nn.Module, embedding: torch.Tensor) -> Projection:
    head = model.get_submodule("lm_head")
    tied = type(head) is torch.nn.Linear and head.weight.data_ptr() == embedding.data_ptr()
    # A tied head is laid out for its own use; the embedding is needed as it is.
    return linear(embedding) if tied else take_linear(model, "lm_head")


def _parameter(module: torch.nn.Module, name: str) -> torch.Tensor:
    return module.get_parameter(name).detach()
