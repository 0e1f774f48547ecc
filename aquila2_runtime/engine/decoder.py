"""Decoder: the Llama forward pass over paged keys and values. It knows no requests, no text.

Aquila2's architecture is Llama's: RMSNorm before each block, rotary positions on queries and keys
(the halves of a head rotated against each other), grouped key/value heads, SwiGLU, no biases.
What lies between the matrix products is ``pointwise``'s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from aquila2_runtime.engine.linear import Projection, linear, take_linear
from aquila2_runtime.engine.lora import LoraBank
from aquila2_runtime.engine.pointwise import Pointwise
from aquila2_runtime.engine.scripted_step import ScriptedStep, scripted_step
from aquila2_runtime.engine.stages import Stage, pointwise_on

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.engine.attention.base import Attention
    from aquila2_runtime.engine.attention.plan import AttentionPlan
    from aquila2_runtime.engine.lora import LoraStep


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
        pointwise: What lies between the matrix products; None is torch's own operations.
        nf4_copy: Whether 4-bit projections are kept in 16 bits too, for many rows.
        stages: Where the layers are; None is all of them beside the embedding.

    Attributes:
        adapters: The low-rank updates requests may use beside the weights.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        config: ModelConfig,
        max_positions: int,
        pointwise: Pointwise | None = None,
        *,
        nf4_copy: bool = False,
        stages: Sequence[Stage] | None = None,
    ) -> None:
        self.config = config
        self._nf4_copy = nf4_copy
        inner = model.get_submodule("model")
        self._embedding = _parameter(inner, "embed_tokens.weight")
        device = self._embedding.device
        self._stages = tuple(stages or (Stage(device, 0, config.num_layers),))
        pointwise = pointwise or Pointwise(config.rms_norm_eps, self.dtype, device)
        self._pointwises = [pointwise_on(pointwise, stage.device) for stage in self._stages]
        final_norm = _norm_weight(inner, "norm.weight")
        self._layers = [
            self._take_layer(inner.get_submodule(f"layers.{index}"))
            for index in range(config.num_layers)
        ]
        # What follows a layer's output is computed beside that layer, also at a stage's end.
        norms = [layer.input_norm for layer in self._layers[1:]] + [final_norm]
        homes = [stage.device for stage in self._stages for _ in stage.layers]
        self._next_norms = [norm.to(home) for norm, home in zip(norms, homes, strict=True)]
        self._head = _take_head(model, self._embedding, homes[-1])
        self.adapters = LoraBank(config, self.dtype, homes)
        # It does what Pointwise does, in one place.
        plain = type(pointwise) is Pointwise and device.type == "cpu" and len(self._stages) == 1
        self._script = self._scripted() if plain else None
        self._cos, self._sin = rotary_table(config, max_positions, device)

    @property
    def device(self) -> torch.device:
        """Where the embedding is, and with it a step's ids, positions and plan."""
        return self._embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, and of what the projections multiply."""
        return self._embedding.dtype

    @torch.inference_mode()
    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        attention: Attention,
        plan: AttentionPlan,
        adapters: LoraStep | None = None,
    ) -> torch.Tensor:
        """Compute a step's hidden states and store its keys and values.

        Args:
            ids: Token ids, all requests' rows in one line. ``[rows]``.
            positions: Their positions. ``[rows]``.
            attention: Keys, values and how they are read.
            plan: What each row may see.
            adapters: The low-rank updates of rows that use an adapter; None when none does.

        Returns:
            Hidden states after the final norm, on the last stage's device. ``[rows, hidden]``.
        """
        stages, rows = self._stages, ids.shape[0]
        if len(stages) > 1:
            stages[0].enter()
        cos = self._cos.index_select(0, positions)[:, None]
        sin = self._sin.index_select(0, positions)[:, None]
        hidden = self._pointwises[0].begin(F.embedding(ids, self._embedding))
        normed = self._pointwises[0].norm(hidden, self._layers[0].input_norm)
        if self._script is not None and adapters is None:
            done = self._script.run(hidden, normed, (cos, sin), attention, plan)
            if done is not None:
                return done
        for stage, pointwise in zip(stages, self._pointwises, strict=True):
            if stage.first:
                hidden, normed, cos, sin = stage.enter(hidden, normed, cos, sin)
            for index in stage.layers:
                layer = self._layers[index]
                qkv = _adapted(adapters, index, "qkv", normed, layer.qkv(normed))
                query, key, value = pointwise.rotate(
                    qkv.view(rows, -1, self.config.head_dim),
                    cos, sin, self.config.num_heads,
                )  # fmt: skip
                mixed = attention.attend(index, query, key, value, plan)
                mixed = mixed.reshape(rows, -1).to(self.dtype)
                added = _adapted(adapters, index, "output", mixed, layer.output(mixed))
                hidden, normed = pointwise.add_norm(hidden, added, layer.post_norm)
                gate_up = _adapted(adapters, index, "gate_up", normed, layer.gate_up(normed))
                inner = pointwise.gate(gate_up)
                added = _adapted(adapters, index, "down", inner, layer.down(inner))
                hidden, normed = pointwise.add_norm(hidden, added, self._next_norms[index])
        return normed

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Turn the result of ``forward`` into fp32 logits. ``[rows, vocab]``."""
        return self._head(hidden).float()

    def _scripted(self) -> ScriptedStep | None:
        each = [
            (
                (layer.qkv, layer.output, layer.gate_up, layer.down),
                (layer.post_norm, next_norm),
            )
            for layer, next_norm in zip(self._layers, self._next_norms, strict=True)
        ]
        return scripted_step(each, self.config, self.dtype)

    def _take_layer(self, layer: torch.nn.Module) -> _Layer:
        attention, mlp = layer.get_submodule("self_attn"), layer.get_submodule("mlp")
        return _Layer(
            input_norm=_norm_weight(layer, "input_layernorm.weight"),
            qkv=self._take(attention, "q_proj", "k_proj", "v_proj"),
            output=self._take(attention, "o_proj"),
            post_norm=_norm_weight(layer, "post_attention_layernorm.weight"),
            gate_up=self._take(mlp, "gate_proj", "up_proj"),
            down=self._take(mlp, "down_proj"),
        )

    def _take(self, parent: torch.nn.Module, *names: str) -> Projection:
        taken = take_linear(parent, *names, nf4_copy=self._nf4_copy)
        if self.device.type == "cuda":
            # At once: the next projection would be put where its parts were, where it is seldom as
            # large, and what is left beside it could not be given back afterwards.
            torch.cuda.empty_cache()
        return taken


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


def _adapted(
    adapters: LoraStep | None, layer: int, name: str, states: torch.Tensor, plain: torch.Tensor
) -> torch.Tensor:
    """A projection's output, with the low-rank updates of the rows that use an adapter."""
    return plain if adapters is None else adapters.add(layer, name, states, plain)


def _take_head(model: torch.nn.Module, embedding: torch.Tensor, device: torch.device) -> Projection:
    head = model.get_submodule("lm_head")
    tied = type(head) is torch.nn.Linear and head.weight.data_ptr() == embedding.data_ptr()
    # A tied head is laid out for its own use; the embedding is needed as it is.
    return linear(embedding.to(device)) if tied else take_linear(model, "lm_head")


def _parameter(module: torch.nn.Module, name: str) -> torch.Tensor:
    return module.get_parameter(name).detach()


def _norm_weight(module: torch.nn.Module, name: str) -> torch.Tensor:
    return _parameter(module, name).float()
