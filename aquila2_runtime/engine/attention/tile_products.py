"""A tile of prompt rows by plain bfloat16 products. It knows no positions, no cache and no request.

On AMD's processors torch's fused kernel multiplies bfloat16 at the speed of fp32, while oneDNN's
plain products are three times as fast. But they round scores to bfloat16: a score of 20 is then off
by up to 0.06, and its token's share by 6 %. So scores are made twice. The first time tells every
row's highest; the second time that is taken off within the product, before it is rounded. What
counts is then near 0 and exact: with x below the highest, a share is off by up to x e^-x / 512 of
the highest's.
"""

from __future__ import annotations

import platform
from typing import Final

import torch

from aquila2_runtime.engine.row_slices import has_amx

# Scores made at once, unless there are more threads than heads of these: 8 MB, so that they stay in
# the processor's cache, and that the C library does not ask the system for their memory each time.
_SCORES: Final = 4 * 2**20


def outrun_fused() -> bool:
    """Whether plain products are taken to be faster than the fused kernel on this processor.

    Seen on AMD's Zen 5. With AMX the fused kernel is the faster one; on others that multiply
    bfloat16, ARM's among them, nobody has looked.
    """
    return platform.machine() in {"x86_64", "AMD64"} and not has_amx()


def attend_by_products(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Attend with some rows.

    Args:
        queries: bfloat16. ``[heads, rows, dim]``.
        keys: What they see or not. ``[kv_heads, tokens, dim]``.
        values: The same.
        mask: 0, or minus infinity for what a row must not see; every row sees something.
            ``[rows, tokens]``.

    Returns:
        ``[heads, rows, dim]``.
    """
    heads, rows, dim = queries.shape
    kv_heads, tokens, _ = keys.shape
    each = heads // kv_heads
    grouped = queries.reshape(kv_heads, each * rows, dim)
    unseen = mask.repeat(each, 1) if each > 1 else mask
    at_once = max(_SCORES // (each * rows * tokens), torch.get_num_threads())
    found = [
        _attend(grouped[some], keys[some], values[some], unseen)
        for some in (slice(low, low + at_once) for low in range(0, kv_heads, at_once))
    ]
    mixed = found[0] if len(found) == 1 else torch.cat(found)
    return mixed.view(heads, rows, dim)


def _attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    # Torch multiplies a part of longer lines by a way that is three times as slow.
    scale, across = queries.shape[-1] ** -0.5, keys.contiguous().transpose(1, 2)
    hidden = mask.expand(len(queries), -1, -1)
    scores = torch.baddbmm(hidden, queries, across, alpha=scale)
    below = mask - scores.amax(-1, keepdim=True)
    below.baddbmm_(queries, across, alpha=scale)
    torch.softmax(below, -1, out=scores)
    return torch.bmm(scores, values)
