"""Pointwise: what the decoder does between matrix products, by torch's own operations. No weights.

It is the reference that fused kernels are tested against. The norm multiplies in fp32 and rounds
once, as the released Aquila code does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


class Pointwise:
    """Norms, rotary positions and the gate of the feed-forward block.

    Args:
        eps: Added to the mean square before the root.
    """

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Scale each row to a root mean square of 1, then by ``weight``. ``[rows, hidden]``."""
        if hidden.dtype == torch.float32:
            return F.rms_norm(hidden, weight.shape, weight, self.eps)
        wide = hidden.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (weight.float() * (wide * scale)).to(hidden.dtype)

    def add_norm(
        self, hidden: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add a block's output to the residual; return the sum and its norm."""
        hidden = hidden + delta
        return hidden, self.norm(hidden, weight)

    def rotate(
        self, qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, heads: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Split fused projections, and turn queries and keys to their positions.

        Args:
            qkv: ``[rows, heads + 2 * kv_heads, head_dim]``.
            cos: ``[rows, 1, head_dim / 2]``, fp32.
            sin: The same.
            heads: Query heads.

        Returns:
            Queries, keys and values; the values may be a view.
        """
        kv_heads = (qkv.shape[1] - heads) // 2
        query, key, value = qkv.split([heads, kv_heads, kv_heads], dim=1)
        return _rotate(query, cos, sin), _rotate(key, cos, sin), value

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """``silu(gate) * up`` of a fused projection. ``[rows, 2 * n]`` to ``[rows, n]``."""
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up


def _rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn the halves of each head against each other, in fp32."""
    first, second = states.float().chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(states.dtype)
