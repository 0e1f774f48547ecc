"""Caches that hold something before a test begins. It knows no requests and no attention."""

from __future__ import annotations

import torch

from aquila2_runtime.engine.attention.cache import COLUMNS, PagedKVCache


def filled_cache(
    *,
    kv_heads: int,
    dim: int,
    layers: int = 1,
    blocks: int = 64,
    size: int = 16,
    seed: int = 1,
    columns: bool = False,
) -> PagedKVCache:
    """A cache on CPU in fp32, or bfloat16 with columns, random numbers in all of its places."""
    generator = torch.Generator().manual_seed(seed)
    cache = PagedKVCache(
        num_layers=layers,
        num_blocks=blocks,
        block_size=size,
        num_kv_heads=kv_heads,
        head_dim=dim,
        dtype=torch.bfloat16 if columns else torch.float32,
        device=torch.device("cpu"),
        columns=columns,
    )
    for stored in (*cache.keys, *cache.values):
        stored.copy_(torch.randn(stored.shape, generator=generator))
    for layer, wide in enumerate(cache.columns):
        for place in range((blocks + 1) * size):
            key = cache.key_lines[layer][:, place]
            wide[place // COLUMNS, :, place % COLUMNS] = key.flatten().half()
    return cache
