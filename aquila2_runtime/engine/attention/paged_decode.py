"""Decode attention over paged keys and values, in Triton. It knows tensors, no requests, no policy.

One query row per request reads that request's blocks in place. A context is divided among
``splits`` programs (flash decoding: Dao et al., 2023), so that one long request occupies the whole
device; each keeps a running maximum and sum (online softmax: Milakov and Gimelshein, 2018) and
leaves a partial result with the logarithm of its sum, and a second kernel merges these. The query
heads of a group share one read of their key/value head. How many splits there are is fixed by the
launch, how long each is by the lengths on the device: nothing is read back, so a captured launch
serves every context up to the block tables' width.

Keys and values may be stored in 8 bits with one scale per token and head: the integers are exact
in every float type, so scores are scaled after the product and weights before it.
"""

from __future__ import annotations

from typing import Final

import torch
import triton
import triton.language as tl

MAX_SPLITS: Final = 32
_TILE: Final = 64  # tokens read at once
# More programs than processors: the last wave of a launch should be a small part of it.
_WAVES: Final = 2
_LOG2_E: Final = 1.4426950408889634
LN_2 = tl.constexpr(0.6931471805599453)


def choose_splits(rows: int, kv_heads: int, max_context: int, processors: int) -> int:
    """How many programs share one context; a power of two.

    Args:
        rows: Requests decoded together.
        kv_heads: Key/value heads.
        max_context: The longest context a launch may meet.
        processors: Multiprocessors of the device.
    """
    wanted = -(-_WAVES * processors // (rows * kv_heads))
    useful = -(-max_context // _TILE)
    splits = 1
    while splits < min(wanted, useful, MAX_SPLITS):
        splits *= 2
    return splits


def paged_decode(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    tables: torch.Tensor,
    lengths: torch.Tensor,
    *,
    splits: int,
    key_scales: torch.Tensor | None = None,
    value_scales: torch.Tensor | None = None,
    log_sums: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mix each row's values over its context.

    Args:
        query: ``[rows, heads, head_dim]``.
        keys: ``[kv_heads, blocks, block_size, head_dim]``, contiguous; ``head_dim`` is a power of
            two from 16 on. Floating point, or int8 with scales.
        values: The same.
        tables: Whole numbers. ``[rows, n]``; entries past a row's context are not read.
        lengths: Tokens of each row's context, whole numbers. ``[rows]``.
        splits: Programs per context, a power of two (see ``choose_splits``).
        key_scales: What the integers are multiplied by, fp32. ``[kv_heads, blocks, block_size]``.
        value_scales: The same.
        log_sums: Filled with the natural logarithms of the sums of exponentials, if given; fp32,
            -inf for a row of length 0. ``[rows, heads]``, contiguous.

    Returns:
        ``[rows, heads, head_dim]`` in the query's type; zeros for a row of length 0.
    """
    rows, heads, dim = query.shape
    kv_heads, blocks, block_size, _ = keys.shape
    group = heads // kv_heads
    mixed = torch.empty_like(query, memory_format=torch.contiguous_format)
    partial = mixed
    sums = lengths if log_sums is None else log_sums  # not used when nothing is split or asked for
    if splits > 1:
        partial = torch.empty(rows, heads, splits, dim, dtype=torch.float32, device=query.device)
        sums = torch.empty(rows, heads, splits, dtype=torch.float32, device=query.device)
    quantized = key_scales is not None
    _attend_kernel[(rows, kv_heads, splits)](
        query.contiguous(),
        keys,
        values,
        keys if key_scales is None else key_scales,
        values if value_scales is None else value_scales,
        tables,
        lengths,
        mixed if splits == 1 else partial,
        sums,
        dim**-0.5 * _LOG2_E,
        tables.stride(0),
        blocks * block_size,
        KV_HEADS=kv_heads,
        GROUP=group,
        # The matrix units multiply 16 rows at least; a group of one goes without them.
        GROUP_ROWS=1 if group == 1 else max(16, triton.next_power_of_2(group)),
        HEAD_DIM=dim,
        BLOCK_SIZE=block_size,
        TILE=_TILE,
        SPLITS=splits,
        QUANTIZED=quantized,
        KEEP=log_sums is not None,
        num_warps=4,
        num_stages=2,
    )
    if splits > 1:
        kept = sums if log_sums is None else log_sums
        _merge_kernel[(rows * heads,)](
            partial, sums, mixed, kept, HEAD_DIM=dim, SPLITS=splits, KEEP=log_sums is not None
        )
    return mixed


# Of a table's width Triton would build a kernel each for 1, for multiples of 16 and for others.
@triton.jit(do_not_specialize=["table_stride"])  # type: ignore[untyped-decorator, unused-ignore]
def _attend_kernel(  # noqa: PLR0915 - one launch is one function
    query: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    key_scales: tl.tensor,
    value_scales: tl.tensor,
    tables: tl.tensor,
    lengths: tl.tensor,
    out: tl.tensor,
    sums: tl.tensor,
    scale: tl.tensor,
    table_stride: tl.tensor,
    head_places: tl.tensor,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
    SPLITS: tl.constexpr,
    QUANTIZED: tl.constexpr,
    KEEP: tl.constexpr,
) -> None:
    """One split of one row's context, for the query heads of one key/value head."""
    row = tl.program_id(0)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    length = tl.load(lengths + row).to(tl.int32)
    per_split = tl.cdiv(tl.cdiv(length, TILE), SPLITS) * TILE
    begin = split * per_split
    end = tl.minimum(begin + per_split, length)

    dims = tl.arange(0, HEAD_DIM)
    members = tl.arange(0, GROUP_ROWS)
    heads = row * (KV_HEADS * GROUP) + kv_head * GROUP + members
    own = members < GROUP
    q = tl.load(query + heads[:, None] * HEAD_DIM + dims[None, :], mask=own[:, None], other=0.0)
    first_place = kv_head.to(tl.int64) * head_places

    highest = tl.full([GROUP_ROWS], float("-inf"), dtype=tl.float32)
    total = tl.zeros([GROUP_ROWS], dtype=tl.float32)
    mixed = tl.zeros([GROUP_ROWS, HEAD_DIM], dtype=tl.float32)
    for start in range(begin, end, TILE):
        tokens = start + tl.arange(0, TILE)
        seen = tokens < end
        block = tl.load(tables + row * table_stride + tokens // BLOCK_SIZE, mask=seen, other=0)
        places = first_place + block.to(tl.int64) * BLOCK_SIZE + tokens % BLOCK_SIZE
        where = places[:, None] * HEAD_DIM + dims[None, :]
        k = tl.load(keys + where, mask=seen[:, None], other=0)
        v = tl.load(values + where, mask=seen[:, None], other=0)
        if QUANTIZED and GROUP_ROWS > 1:
            k = k.to(q.dtype)
            v = v.to(q.dtype)
        if GROUP_ROWS == 1:
            scores = tl.sum(q.to(tl.float32) * k.to(tl.float32), axis=1)[None, :]
        else:
            scores = tl.dot(q.to(k.dtype), tl.trans(k), input_precision="ieee")
        scores = scores * scale
        if QUANTIZED:
            scores = scores * tl.load(key_scales + places, mask=seen, other=0.0)[None, :]
        scores = tl.where(seen[None, :], scores, float("-inf"))
        # A tile that is begun has a token to see, so the maximum is a number from here on.
        above = tl.maximum(highest, tl.max(scores, axis=1))
        weights = tl.exp2(scores - above[:, None])
        faded = tl.exp2(highest - above)
        total = total * faded + tl.sum(weights, axis=1)
        if QUANTIZED:
            weights = weights * tl.load(value_scales + places, mask=seen, other=0.0)[None, :]
        if GROUP_ROWS == 1:
            added = tl.sum(tl.trans(weights) * v.to(tl.float32), axis=0)[None, :]
        else:
            added = tl.dot(weights.to(v.dtype), v, input_precision="ieee")
        mixed = mixed * faded[:, None] + added
        highest = above

    divisor = tl.where(total > 0.0, total, 1.0)
    mixed = mixed / divisor[:, None]
    if SPLITS == 1:
        places_out = heads
        if KEEP:
            tl.store(sums + heads, (highest + tl.log2(divisor)) * LN_2, mask=own)
    else:
        places_out = heads * SPLITS + split
        # An empty split keeps a maximum of -inf, and so counts for nothing.
        tl.store(sums + places_out, highest + tl.log2(divisor), mask=own)
    tl.store(
        out + places_out[:, None].to(tl.int64) * HEAD_DIM + dims[None, :],
        mixed.to(out.dtype.element_ty),
        mask=own[:, None],
    )


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _merge_kernel(
    partial: tl.tensor,
    sums: tl.tensor,
    out: tl.tensor,
    kept: tl.tensor,
    HEAD_DIM: tl.constexpr,
    SPLITS: tl.constexpr,
    KEEP: tl.constexpr,
) -> None:
    """One head of one row: its splits weighed by their sums."""
    head = tl.program_id(0)
    splits = tl.arange(0, SPLITS)
    dims = tl.arange(0, HEAD_DIM)
    logs = tl.load(sums + head * SPLITS + splits)
    highest = tl.max(logs, axis=0)
    # Where nothing was seen at all the result is zero, not a quotient of zeros.
    weights = tl.exp2(logs - tl.where(highest == float("-inf"), 0.0, highest))
    total = tl.sum(weights, axis=0)
    divisor = tl.where(total > 0.0, total, 1.0)
    weights = weights / divisor
    if KEEP:
        tl.store(kept + head, (highest + tl.log2(divisor)) * LN_2)
    places = (head.to(tl.int64) * SPLITS + splits[:, None]) * HEAD_DIM + dims[None, :]
    mixed = tl.sum(tl.load(partial + places) * weights[:, None], axis=0)
    tl.store(out + head.to(tl.int64) * HEAD_DIM + dims, mixed.to(out.dtype.element_ty))
