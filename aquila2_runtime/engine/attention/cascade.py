"""Cascade: attention over a prefix that many rows share, read once and merged with the rest.

Attention over two parts of a context is the average of both parts' results, weighted by the sums
of exponentials that their softmaxes divide by; in logarithms, by ``logaddexp`` (Milakov and
Gimelshein, "Online normalizer calculation for softmax", 2018; for shared prefixes Juravsky et al.,
"Hydragen", 2024). It is the same number up to rounding: about 1e-7 of it in fp32.

So a row's result depends in its last bits on whether a step could read its prefix together with
others'. In fp32 that has not been seen to change an id; in 16-bit types, where hidden states are
rounded after every layer, it can turn a near tie.

Everything here is plain torch and serves every implementation on every device that can give the
logarithm of its own sum of exponentials.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.plan import SharedPrefix


def add_shared(
    query: torch.Tensor,
    mixed: torch.Tensor,
    log_sums: torch.Tensor,
    cache: PagedKVCache,
    layer: int,
    shared: Sequence[SharedPrefix],
) -> torch.Tensor:
    """Complete decoding rows' attention by the prefixes they share.

    Args:
        query: The decoding rows' queries. ``[rows, heads, head_dim]``.
        mixed: Their attention over their own tables. ``[rows, heads, head_dim]``.
        log_sums: Logarithms of the sums of exponentials of its scores, fp32. ``[rows, heads]``.
        cache: Keys and values.
        layer: Index of the layer.
        shared: The prefixes; no row is in two of them.

    Returns:
        Attention over prefixes and tables in fp32. ``[rows, heads, head_dim]``.
    """
    mixed = mixed.float()
    for prefix in shared:
        part, part_sums = _over_prefix(query[prefix.rows], cache, layer, prefix)
        own_sums = log_sums[prefix.rows]
        total = torch.logaddexp(own_sums, part_sums)
        own = mixed[prefix.rows] * (own_sums - total).exp_()[..., None]
        mixed = mixed.index_copy(0, prefix.rows, own + part * (part_sums - total).exp_()[..., None])
    return mixed


def weigh(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Softmax in parts: exponentials, their sums, and the logarithms of the true sums.

    Args:
        scores: fp32, at least one of each row finite; overwritten. ``[..., tokens]``.

    Returns:
        Exponentials relative to each row's largest ``[..., tokens]``, their sums ``[..., 1]``, and
        the logarithms of the sums of the scores' exponentials ``[...]``.
    """
    largest = scores.amax(dim=-1, keepdim=True)
    exponentials = scores.sub_(largest).exp_()
    sums = exponentials.sum(dim=-1, keepdim=True)
    return exponentials, sums, (largest + sums.log())[..., 0]


def _over_prefix(
    query: torch.Tensor, cache: PagedKVCache, layer: int, prefix: SharedPrefix
) -> tuple[torch.Tensor, torch.Tensor]:
    """All members' queries against the prefix in one product per key/value head."""
    keys, values = _read(cache, layer, prefix, query.dtype)
    kv_heads, _, dim = keys.shape
    rows, heads, _ = query.shape
    q = query.view(rows, kv_heads, -1, dim).transpose(0, 1).reshape(kv_heads, -1, dim)
    scores = torch.bmm(q.to(keys.dtype) * dim**-0.5, keys.transpose(1, 2)).float()
    exponentials, sums, log_sums = weigh(scores)
    part = torch.bmm(exponentials.to(values.dtype), values).float().div_(sums)
    part = part.view(kv_heads, rows, -1, dim).transpose(0, 1).reshape(rows, heads, dim)
    return part, log_sums.view(kv_heads, rows, -1).transpose(0, 1).reshape(rows, heads)


def _read(
    cache: PagedKVCache, layer: int, prefix: SharedPrefix, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """The prefix's ``[kv_heads, tokens, head_dim]``; views where its blocks are consecutive."""
    if prefix.first is None or cache.scaled:
        keys, values = cache.gather(layer, prefix.blocks, dtype)
    else:
        count = prefix.blocks.shape[0]
        keys = cache.keys[layer].narrow(1, prefix.first, count)
        values = cache.values[layer].narrow(1, prefix.first, count)
    return keys.flatten(1, 2), values.flatten(1, 2)
