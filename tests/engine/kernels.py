"""What the tests of the Triton kernels share: where they run, and caches with random content."""

from __future__ import annotations

import torch

from aquila2_runtime.engine.attention.cache import PagedKVCache

# On a GPU the very same tests run the compiled kernels.
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BLOCK_SIZE = 16


def random_cache(
    *, blocks: int, kv_heads: int, head_dim: int, dtype: torch.dtype, seed: int = 0
) -> PagedKVCache:
    """A cache of one layer, every block full of random numbers."""
    cache = PagedKVCache(
        num_layers=1,
        num_blocks=blocks,
        block_size=BLOCK_SIZE,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        dtype=dtype,
        device=DEVICE,
    )
    generator = torch.Generator().manual_seed(seed)
    shape = ((blocks + 1) * BLOCK_SIZE, kv_heads, head_dim)
    wide = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
    key, value = (torch.randn(shape, generator=generator).to(DEVICE).to(wide) for _ in range(2))
    cache.store(0, torch.arange(shape[0], device=DEVICE), key, value)
    return cache


def relative(found: torch.Tensor, right: torch.Tensor) -> float:
    """Distance of two results, relative to the right one; NaN is far."""
    gap = (found.double() - right.double()).norm() / right.double().norm()
    return float("inf") if gap.isnan() else float(gap)
