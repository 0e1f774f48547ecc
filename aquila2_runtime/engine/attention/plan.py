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
class SharedPrefix:
    """Leading blocks that several decoding rows see in full, to be read once for all of them.

    Attributes:
        rows: The decoding rows. ``[m]``.
        blocks: The blocks, in order. ``[n]``.
        first: The first block's number where the blocks are consecutive, so that they can be read
            in place; None otherwise.
    """

    rows: torch.Tensor
    blocks: torch.Tensor
    first: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class AttentionPlan:
    """Where a step's tokens go and what each may see; the same for every layer.

    What a decoding row sees is its prefix in ``shared``, if it is in one (at most one), and then
    what its table says; a row's own token is always in its table. ``shared`` is empty unless the
    implementation's class says ``cascades``.

    Attributes:
        slots: For every row, its place in the cache (block * block_size + offset). ``[rows]``.
        num_decode: The first rows, which each see their own number of tokens: one per decoding
            request, and one per draft of it.
        decode_blocks: Their block tables, padded with block 0. ``[num_decode, n]``.
        decode_mask: 0 where a decoding row may look, -inf elsewhere; None where the implementation
            reads lengths instead. ``[num_decode, n * size]``.
        prefills: The other rows.
        decode_lengths: Tokens each decoding row may see, for kernels that need no mask; int32.
            ``[num_decode]``.
        shared: Prefixes that are read once for several decoding rows.
        number: Among the plans of one planner; 0 for none.
        follows: The number of the plan whose decoding rows these are, each with a token more; 0
            where that is not known.
    """

    slots: torch.Tensor
    num_decode: int
    decode_blocks: torch.Tensor | None
    decode_mask: torch.Tensor | None
    prefills: tuple[PrefillSegment, ...]
    decode_lengths: torch.Tensor | None = None
    shared: tuple[SharedPrefix, ...] = ()
    number: int = 0
    follows: int = 0
