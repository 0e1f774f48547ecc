"""Owns the trained network (Aquila2 = Llama layout) and the Muon step that trains its matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .plan import WINDOW

# Queries attended at a time: what lies above the diagonal of the scores is mostly left out.
BLOCK = 256


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; heads are 64 wide."""

    vocab: int = 4096
    hidden: int = 256
    inner: int = 688
    layers: int = 8
    theta: float = 65000.0
    eps: float = 1e-5
    positions: int = WINDOW

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.hidden // 64

    @property
    def factor(self) -> float:
        """What rotary positions are divided by (linear interpolation, as the 16K models do)."""
        return self.positions / WINDOW


class Norm(nn.Module):
    """RMS normalisation with a learned scale."""

    def __init__(self, size: int, eps: float) -> None:
        """Starts with scale one."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalises the last dimension."""
        return F.rms_norm(x, (x.size(-1),), self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Projections of self-attention with rotary positions."""

    def __init__(self, shape: Shape) -> None:
        """Makes the four projections."""
        super().__init__()
        self.heads, size = shape.heads, shape.hidden
        self.q_proj = nn.Linear(size, size, bias=False)
        self.k_proj = nn.Linear(size, size, bias=False)
        self.v_proj = nn.Linear(size, size, bias=False)
        self.o_proj = nn.Linear(size, size, bias=False)

    def heads_of(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gives queries (scaled by 1/8), keys and values, each rows x heads x length x 64."""
        rows, length, _ = x.shape
        joined = torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight])
        parts = F.linear(x, joined).view(rows, length, 3, self.heads, 64)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        q, k = _turn(q, cos, sin) * 0.125, _turn(k, cos, sin)
        return q.contiguous(), k.contiguous(), v.contiguous()


def attend(q: Tensor, k: Tensor, v: Tensor, later: Tensor) -> Tensor:
    """Attends from every position to those that `later`, added to the scores, leaves.

    On a CPU without AMX, in bfloat16, this takes less than half the time of the fused kernel; with
    it, about as long, and up to 1.4 times as long for 2,048 positions. In float32 the fused kernel
    is as fast for 256 positions and takes two thirds of the time for 2,048; on a GPU it is the one.
    """
    if q.dtype == torch.float32 or q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
    rows, heads, length, size = q.shape
    q, k, v = (x.view(rows * heads, length, size) for x in (q, k, v))
    found = []
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        unseen = later[start:end, :end].expand(rows * heads, -1, -1)
        scores = torch.baddbmm(unseen, q[:, start:end], k[:, :end].transpose(-1, -2))
        found.append(torch.bmm(scores.softmax(-1), v[:, :end]))
    return torch.cat(found, 1).view(rows, heads, length, size)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Gate(nn.Module):
    """SwiGLU feed-forward."""

    def __init__(self, shape: Shape) -> None:
        """Makes the three projections."""
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.inner, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.inner, bias=False)
        self.down_proj = nn.Linear(shape.inner, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps every position by itself."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """One pre-norm block."""

    def __init__(self, shape: Shape) -> None:
        """Makes attention, feed-forward and their norms."""
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = Gate(shape)
        self.input_layernorm = Norm(shape.hidden, shape.eps)
        self.post_attention_layernorm = Norm(shape.hidden, shape.eps)

    def before(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gives what attention takes."""
        return self.self_attn.heads_of(self.input_layernorm(x), cos, sin)

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """Adds what attention gave, then feed-forward."""
        x = x + self.self_attn.o_proj(y.transpose(1, 2).reshape(x.shape))
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class Network(nn.Module):
    """The language model; input and output embeddings are one matrix while training."""

    def __init__(self, shape: Shape, dtype: torch.dtype = torch.bfloat16) -> None:
        """Starts so that attention matches equal content and copies it (K = Q, O = V^T).

        Args:
            shape: The sizes.
            dtype: What it computes in; weights are float32.
        """
        super().__init__()
        self.shape, self.dtype = shape, dtype
        self.before, self.after = Layer.before, Layer.after
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden, shape.eps)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                narrow = 0.5 / math.sqrt(shape.layers) if "down_proj" in name else 0.6
                std = 0.02 if "embed" in name else narrow / math.sqrt(weight.size(1))
                nn.init.normal_(weight, std=std)
        with torch.no_grad():
            for part in self.modules():
                if isinstance(part, Attention):
                    part.k_proj.weight.copy_(part.q_proj.weight)
                    part.o_proj.weight.copy_(part.v_proj.weight.T)

    def fuse(self) -> None:
        """Has the compiler make one loop of what lies between products: half the time of a step.

        Attention stays outside: the loops it would get are slower than torch's own at 1,024 tokens.
        Takes a C++ compiler and, at the first steps, about a minute.
        """
        self.before = torch.compile(Layer.before, dynamic=True)
        self.after = torch.compile(Layer.after, dynamic=True)

    def here(self, numbers: Tensor) -> Tensor:
        """Brings numbers to where the weights are, without waiting for what is under way."""
        device = self.embed_tokens.weight.device
        return (
            numbers if device.type == "cpu" else numbers.pin_memory().to(device, non_blocking=True)
        )

    def numbers(self) -> torch.autocast:
        """Has the products inside it take the numbers that the network computes in."""
        device = self.embed_tokens.weight.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def forward(self, ids: Tensor, chosen: Tensor) -> Tensor:
        """Gives the logits at the chosen flat positions."""
        rate = self.shape.theta ** (-torch.arange(0, 64, 2, device=ids.device).float() / 64)
        place = torch.arange(ids.size(1), device=ids.device).float() / self.shape.factor
        angle = place[:, None] * rate
        cos, sin = angle.cos().to(self.dtype), angle.sin().to(self.dtype)
        x = self.embed_tokens(ids).to(self.dtype)
        # On a GPU no rows ask for it, and 16,384 positions squared are half a gigabyte.
        size = 0 if ids.is_cuda else ids.size(1)
        later = torch.full((size, size), -1e9, dtype=x.dtype).triu(1)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            x = self.after(layer, x, attend(*self.before(layer, x, cos, sin), later))
        x = self.norm(x).reshape(-1, self.shape.hidden)[chosen]
        return F.linear(x, self.embed_tokens.weight)


def _orthogonal(grad: Tensor, dtype: torch.dtype) -> Tensor:
    x = grad.to(dtype)
    x = x / (x.norm() + 1e-7)
    tall = x.size(0) > x.size(1)
    x = x.T if tall else x
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    result: Tensor = (x.T if tall else x).float()
    return result


class Muon:
    """Momentum whose step is made orthogonal."""

    def __init__(self, weights: list[nn.Parameter], dtype: torch.dtype = torch.bfloat16) -> None:
        """Keeps the matrices; steps are made orthogonal in `dtype`."""
        self.weights, self.dtype = weights, dtype
        self.moments = [torch.zeros_like(w) for w in weights]

    @torch.no_grad()
    def step(self, rate: float, keep: float = 0.95, decay: float = 0.05) -> None:
        """Moves every matrix once."""
        for weight, moment in zip(self.weights, self.moments, strict=True):
            grad = weight.grad if weight.grad is not None else torch.zeros_like(weight)
            moment.mul_(keep).add_(grad, alpha=1 - keep)
            move = _orthogonal(grad.lerp(moment, keep), self.dtype)
            scale = max(1.0, weight.size(0) / weight.size(1)) ** 0.5
            weight.mul_(1 - rate * decay).add_(move, alpha=-rate * scale)
