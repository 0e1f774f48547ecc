"""Storing a step's keys and values in one launch, in Triton. It knows tensors, no requests.

The reference is ``PagedKVCache.store``, which takes a launch per tensor and, for int8, a dozen: at
one decoding request those would cost more time than the bytes they move.
"""

from __future__ import annotations

from typing import Final

import torch
import triton
import triton.language as tl

_ROUNDER: Final = 1.5 * 2.0**23


def paged_store(
    keys: torch.Tensor,
    values: torch.Tensor,
    slots: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    key_scales: torch.Tensor | None = None,
    value_scales: torch.Tensor | None = None,
) -> None:
    """Write rows into their places.

    Args:
        keys: ``[kv_heads, blocks, block_size, head_dim]``, contiguous.
        values: The same.
        slots: Place of every row (block * block_size + offset). ``[rows]``.
        key: ``[rows, kv_heads, head_dim]``; the last axis is contiguous.
        value: The same.
        key_scales: Written too when the cache holds int8. ``[kv_heads, blocks, block_size]``.
        value_scales: The same.
    """
    rows, kv_heads, dim = key.shape
    _store_kernel[(rows, kv_heads)](
        keys,
        values,
        keys if key_scales is None else key_scales,
        values if value_scales is None else value_scales,
        slots,
        key,
        value,
        key.stride(0),
        key.stride(1),
        value.stride(0),
        value.stride(1),
        keys.shape[1] * keys.shape[2],
        HEAD_DIM=dim,
        SCALED=key_scales is not None,
        ROUNDER=_ROUNDER,
        num_warps=1,
    )


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _store_kernel(
    keys: tl.tensor,
    values: tl.tensor,
    key_scales: tl.tensor,
    value_scales: tl.tensor,
    slots: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    key_row: tl.tensor,
    key_head: tl.tensor,
    value_row: tl.tensor,
    value_head: tl.tensor,
    head_places: tl.tensor,
    HEAD_DIM: tl.constexpr,
    SCALED: tl.constexpr,
    ROUNDER: tl.constexpr,
) -> None:
    """One head of one row."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    dims = tl.arange(0, HEAD_DIM)
    place = head * head_places + tl.load(slots + row)
    k = tl.load(key + row * key_row + head * key_head + dims)
    v = tl.load(value + row * value_row + head * value_head + dims)
    if SCALED:
        k = k.to(tl.float32)
        v = v.to(tl.float32)
        key_scale = tl.max(tl.abs(k), axis=0) / 127.0
        value_scale = tl.max(tl.abs(v), axis=0) / 127.0
        tl.store(key_scales + place, key_scale)
        tl.store(value_scales + place, value_scale)
        # Where fp32 has no bits left for fractions, adding rounds: to nearest, halves to even.
        k = (k / tl.where(key_scale > 0.0, key_scale, 1.0) + ROUNDER) - ROUNDER
        v = (v / tl.where(value_scale > 0.0, value_scale, 1.0) + ROUNDER) - ROUNDER
    tl.store(keys + place * HEAD_DIM + dims, k.to(keys.dtype.element_ty))
    tl.store(values + place * HEAD_DIM + dims, v.to(values.dtype.element_ty))
