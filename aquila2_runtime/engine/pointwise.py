"""Pointwise: what the decoder does between matrix products, by torch's own operations. No weights.

It is the reference that fused kernels are tested against. The norm multiplies in fp32 and rounds
once, as the released Aquila code does.

On CPU everything between the projections is fp32: the sum over the layers, norms, rotation and
attention. Mixed steps would cost conversions there, and one product on CPU outweighs all of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


class Pointwise:
    """Norms, rotary positions and the gate of the feed-forward block.

    Args:
        eps: Added to the mean square before the root.
        dtype: Of what the projections multiply.
        device: Where it runs.
    """

    def __init__(self, eps: float, dtype: torch.dtype, device: torch.device) -> None:
        self.eps = eps
        self.dtype = dtype
        self._wide = device.type == "cpu"
        self._eps = torch.full((1, 1), eps, device=device)

    def begin(self, embedded: torch.Tensor) -> torch.Tensor:
        """The sum over the layers, in its type, at its beginning."""
        return embedded.float() if self._wide else embedded

    def norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Scale each row to a root mean square of 1, then by ``weight``. ``[rows, hidden]``."""
        wide = hidden.float()
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        # 1 / sqrt(length^2 / size + eps), on one number a row.
        scale = torch.addcmul(self._eps, length, length, value=1 / weight.shape[0]).rsqrt_()
        return torch.mul(wide * scale, weight).to(self.dtype)

    def add_norm(
        self, hidden: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add a block's output to the sum; return the sum and its norm.

        The sum is this step's own tensor, so it may be added to in place.
        """
        hidden.add_(delta)
        return hidden, self.norm(hidden, weight)

    def rotate(
        self, qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, heads: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Split fused projections, and turn queries and keys to their positions.

        Args:
            qkv: ``[rows, heads + 2 * kv_heads, head_dim]``; may be overwritten.
            cos: ``[rows, 1, head_dim / 2]``, fp32.
            sin: The same.
            heads: Query heads.

        Returns:
            Queries, keys and values; they may be views.
        """
        kv_heads = (qkv.shape[1] - heads) // 2
        if self._wide:
            qkv = qkv.float()
        rotate_(qkv.narrow(1, 0, heads + kv_heads), cos, sin)
        query, key, value = qkv.split([heads, kv_heads, kv_heads], dim=1)
        return query, key, value

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """``silu(gate) * up`` of a fused projection. ``[rows, 2 * n]`` to ``[rows, n]``."""
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)


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
