"""Pointwise: what the decoder does between matrix products, by torch's own operations. No weights.

It is the reference that fused kernels are tested against. The norm multiplies in fp32 and rounds
once, as the released Aquila code does.

On CPU everything between the projections is fp32: the sum over the layers, norms, rotation and
attention. Mixed steps would cost conversions there, and one product on CPU outweighs all of it.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F

# torch shares work out among its threads where each gets at least so many numbers.
_SHARE: Final = 32_768


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
        if gate.device.type != "cpu":
            return F.silu(gate).mul_(up)
        sizes = even_shares(gate.shape[0], gate.shape[1], torch.get_num_threads())
        if len(sizes) == 1:
            return F.silu(gate).mul_(up)
        return torch.cat([F.silu(rows) for rows in gate.split(sizes)]).mul_(up)


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


def even_shares(rows: int, width: int, threads: int) -> list[int]:
    """How many rows to give torch at a time, so that every thread's share is whole rows.

    The last numbers of a share are computed one by one, and an exponential is then rounded in
    another way than among its neighbours: a share that ends within a row would make that row depend
    on how many there are.
    """
    if threads == 1 or rows * width <= _SHARE:
        return [rows]
    # So many rows at once that all threads get the same number of them; the rest for one thread.
    even = rows // threads * threads
    if even * width < threads * _SHARE or width > _SHARE:
        even = 0
    alone = max(_SHARE // width, 1)
    rest = rows - even
    return [even] * (even > 0) + [alone] * (rest // alone) + [rest % alone] * (rest % alone > 0)
