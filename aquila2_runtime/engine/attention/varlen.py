"""Prefill attention: chunks of several requests, each causal over its own context. No cache here.

Every implementation takes the chunks packed one behind the other, with their contexts (earlier
tokens included) packed likewise; a chunk's last row sees its whole context.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from aquila2_runtime.engine.attention.plan import PrefillSegment
from aquila2_runtime.engine.crossing import brought


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """Where the chunks of a step lie, the same for every layer.

    Attributes:
        counts: Rows of each chunk.
        contexts: Tokens of each chunk's context, the chunk itself included.
        query_starts: Where each chunk begins, and the end. int32, ``[chunks + 1]``.
        context_starts: Where each context begins, and the end. int32, ``[chunks + 1]``.
        places: The contexts' places in the cache (block * block_size + offset). ``[tokens]``.
    """

    counts: tuple[int, ...]
    contexts: tuple[int, ...]
    query_starts: torch.Tensor
    context_starts: torch.Tensor
    places: torch.Tensor

    @property
    def fresh(self) -> bool:
        """Whether no chunk has earlier context, so that the step's own keys are all there is."""
        return self.counts == self.contexts


# query [rows, heads, dim], key and value [tokens, kv_heads, dim] to [rows, heads, dim].
Varlen = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Packed], torch.Tensor]


def pack(segments: Sequence[PrefillSegment], block_size: int) -> Packed:
    """Lay out the chunks of a step.

    Args:
        segments: The chunks, in the order of their rows.
        block_size: Tokens per block.
    """
    counts = tuple(segment.count for segment in segments)
    contexts = tuple(segment.context for segment in segments)
    device = segments[0].blocks.device
    offsets = torch.arange(block_size, device=device)
    places = [
        (segment.blocks[:, None] * block_size + offsets).view(-1)[: segment.context]
        for segment in segments
    ]
    return Packed(
        counts, contexts, _starts(counts, device), _starts(contexts, device), torch.cat(places)
    )


def sdpa_varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packed: Packed
) -> torch.Tensor:
    """One chunk after the other by torch's scaled dot product attention: every device and type."""
    mixed = torch.empty_like(query)
    row = at = 0
    for count, context in zip(packed.counts, packed.contexts, strict=True):
        q, k, v = (
            states[None].transpose(1, 2)
            for states in (
                query[row : row + count],
                key[at : at + context],
                value[at : at + context],
            )
        )
        mask = None
        if count < context:
            square = torch.ones(count, context, dtype=torch.bool, device=query.device)
            mask = square.tril(diagonal=context - count)
        mixed[row : row + count] = attend_chunk(q, k, v, mask)[0].transpose(0, 1)
        row, at = row + count, at + context
    return mixed


def attend_chunk(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """One chunk by torch's scaled dot product attention.

    Args:
        query: ``[1, heads, rows, dim]``.
        key: ``[1, kv_heads, tokens, dim]``.
        value: The same.
        mask: True where a row may look, ``[rows, tokens]``; None where there is a token for every
            row, which sees it and those before it.

    Returns:
        ``[1, heads, rows, dim]``.
    """
    each = query.shape[1] // key.shape[1]
    if each > 1 and query.device.type == "cuda":
        # None of torch's kernels there takes grouped heads with a mask, or in fp32. What it does
        # instead makes all scores at once: of a 34B's chunk at 16,384 tokens 6 GiB, several times.
        key, value = (states.repeat_interleave(each, dim=1) for states in (key, value))
        each = 1
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, enable_gqa=each > 1
    )


def flash_varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packed: Packed
) -> torch.Tensor:
    """All chunks at once by the FlashAttention-2 kernel that torch brings; 16-bit, on CUDA.

    Its causal mask is aligned to the last row of each chunk and its context, as needed here.
    """
    found: Any = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        packed.query_starts,
        packed.context_starts,
        max(packed.counts),
        max(packed.contexts),
        0.0,  # dropout
        True,  # causal
        False,  # no debug mask
    )
    mixed: torch.Tensor = found[0]
    return mixed


def flash_attn_varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packed: Packed
) -> torch.Tensor:
    """The same by the flash-attn package."""
    import flash_attn

    mixed: torch.Tensor = flash_attn.flash_attn_varlen_func(
        query,
        key,
        value,
        packed.query_starts,
        packed.context_starts,
        max(packed.counts),
        max(packed.contexts),
        causal=True,
    )
    return mixed


def _starts(sizes: Sequence[int], device: torch.device) -> torch.Tensor:
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return brought(starts, device, torch.int32)
