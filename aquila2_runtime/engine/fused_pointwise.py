"""FusedPointwise: what lies between matrix products, one Triton launch each. It keeps no weights.

torch's own operations take about forty launches per layer, which at one decoding request cost more
time than reading the weights. Results are rounded where torch rounds them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from aquila2_runtime.engine.pointwise import Pointwise

_GATE_TILE = 1_024


class FusedPointwise(Pointwise):
    """The operations of ``Pointwise`` on CUDA."""

    def begin(self, embedded: torch.Tensor) -> torch.Tensor:
        """The sum over the layers stays in the type of the weights."""
        return embedded

    def norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Scale each row to a root mean square of 1, then by ``weight``."""
        return self._norm(hidden, None, weight)[1]

    def add_norm(
        self, hidden: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add a block's output to the residual; return the sum and its norm."""
        return self._norm(hidden, delta, weight)

    def rotate(
        self, qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, heads: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Split fused projections, and turn queries and keys to their positions."""
        rows, all_heads, dim = qkv.shape
        kv_heads = (all_heads - heads) // 2
        qkv = qkv.contiguous()
        # Queries first, then keys, each in one piece: what reads them need not copy them.
        turned = torch.empty(rows * (heads + kv_heads), dim, dtype=qkv.dtype, device=qkv.device)
        _rotate_kernel[(rows, heads + kv_heads)](
            qkv,
            cos.contiguous(),
            sin.contiguous(),
            turned,
            rows,
            HEADS=heads,
            KV_HEADS=kv_heads,
            HALF=dim // 2,
            num_warps=1,
        )
        query, key = turned.split([rows * heads, rows * kv_heads])
        value = qkv[:, heads + kv_heads :]
        return query.view(rows, heads, dim), key.view(rows, kv_heads, dim), value

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """``silu(gate) * up`` of a fused projection."""
        rows, width = gate_up.shape
        size = width // 2
        gated = torch.empty(rows, size, dtype=gate_up.dtype, device=gate_up.device)
        grid = (rows, triton.cdiv(size, _GATE_TILE))
        _gate_kernel[grid](gate_up.contiguous(), gated, size, TILE=_GATE_TILE, num_warps=4)
        return gated

    def _norm(
        self, hidden: torch.Tensor, delta: torch.Tensor | None, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows, width = hidden.shape
        hidden = hidden.contiguous()
        total = hidden if delta is None else torch.empty_like(hidden)
        normed = torch.empty_like(hidden)
        _norm_kernel[(rows,)](
            hidden,
            hidden if delta is None else delta.contiguous(),
            weight,
            total,
            normed,
            width,
            self.eps,
            ADD=delta is not None,
            TILE=triton.next_power_of_2(width),
            num_warps=8,
        )
        return total, normed


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _norm_kernel(
    hidden: tl.tensor,
    delta: tl.tensor,
    weight: tl.tensor,
    total: tl.tensor,
    normed: tl.tensor,
    width: tl.tensor,
    eps: tl.tensor,
    ADD: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """One row."""
    first = tl.program_id(0).to(tl.int64) * width
    places = tl.arange(0, TILE)
    inside = places < width
    wide = tl.load(hidden + first + places, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        wide += tl.load(delta + first + places, mask=inside, other=0.0).to(tl.float32)
        rounded = wide.to(total.dtype.element_ty)
        tl.store(total + first + places, rounded, mask=inside)
        wide = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, axis=0) / width + eps)
    own = tl.load(weight + places, mask=inside, other=0.0).to(tl.float32)
    result = own * (wide * scale)
    tl.store(normed + first + places, result.to(normed.dtype.element_ty), mask=inside)


# Of a number of rows Triton would build a kernel each for 1, for multiples of 16 and for others.
@triton.jit(do_not_specialize=["rows"])  # type: ignore[untyped-decorator, unused-ignore]
def _rotate_kernel(
    qkv: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    turned: tl.tensor,
    rows: tl.tensor,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
) -> None:
    """One head of one row."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    places = tl.arange(0, HALF)
    source = (row * (HEADS + 2 * KV_HEADS) + head) * 2 * HALF + places
    is_query = head < HEADS
    place = tl.where(is_query, row * HEADS + head, rows * HEADS + row * KV_HEADS + head - HEADS)
    target = place * 2 * HALF + places
    first = tl.load(qkv + source).to(tl.float32)
    second = tl.load(qkv + source + HALF).to(tl.float32)
    c = tl.load(cos + row * HALF + places)
    s = tl.load(sin + row * HALF + places)
    kind = turned.dtype.element_ty
    tl.store(turned + target, (first * c - second * s).to(kind))
    tl.store(turned + target + HALF, (second * c + first * s).to(kind))


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _gate_kernel(
    gate_up: tl.tensor,
    gated: tl.tensor,
    size: tl.tensor,
    TILE: tl.constexpr,
) -> None:
    """One stretch of one row."""
    row = tl.program_id(0).to(tl.int64)
    places = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = places < size
    source = row * 2 * size + places
    gate = tl.load(gate_up + source, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + source + size, mask=inside, other=0.0).to(tl.float32)
    kind = gated.dtype.element_ty
    # torch rounds the gate before it multiplies.
    opened = (gate / (1.0 + tl.exp(-gate))).to(kind).to(tl.float32)
    tl.store(gated + row * size + places, (opened * up).to(kind), mask=inside)
