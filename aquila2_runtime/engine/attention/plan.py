"""AttentionPlan: where a step's tokens go and what each may see. It holds no keys and no values."""

from __future__ import annotations

import dataclasses

import torch


@dataclasses.dataclass(frozen=True, slots=True)
class PrefillSegment:
    """One request's consecutive new tokens within a step.

    Attributes:
        start: Its first row in the step.
        count: Its rows.
        context: Tokens visible to its last row, itself included.
        blocks: Its blocks, enough for ``context`` tokens. Shape ``[n]``.
    """

    start: int
    count: int
    context: int
    blocks: torch.Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class AttentionPlan:
    """Where a step's tokens go and what each may see; the same for every layer.

    Attributes:
        slots: For every row, its place in the cache (block * block_size + offset). ``[rows]``.
        num_decode: The first rows, one per decoding request.
        decode_blocks: Their block tables, padded with block 0. ``[num_decode, n]``.
        decode_mask: 0 where a decoding row may look, -inf elsewhere. ``[num_decode, n * size]``.
        prefills: The other rows.
        decode_lengths: Tokens each decoding row may see, for kernels that need no mask; int32.
            ``[num_decode]``.
    """

    slots: torch.Tensor
    num_decode: int
    decode_blocks: torch.Tensor | None
    decode_mask: torch.Tensor | None
    prefills: tuple[PrefillSegment, ...]
    decode_lengths: torch.Tensor | None = None
