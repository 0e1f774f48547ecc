"""Attention: what every implementation of attention over a paged cache offers."""

from __future__ import annotations

import abc
from typing import ClassVar

import torch

from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.plan import AttentionPlan
from aquila2_runtime.engine.sharing import MIN_SAVED_TOKENS


class Attention(abc.ABC):
    """Mixes a step's values over everything each of its rows may see.

    Args:
        cache: The keys and values; the step's own are stored by ``attend`` first.
    """

    name: ClassVar[str]
    # Whether decoding rows are read by ``plan.decode_lengths``, so that no mask need be made.
    reads_lengths: ClassVar[bool] = False
    # Tokens that reading a prefix once must save to be worth the merge.
    least_saved: ClassVar[int] = MIN_SAVED_TOKENS

    # Whether shared prefixes are read once (``plan.shared``); without it plans have none.
    cascades: bool = False
    # Rows of a prompt that are computed together, from positions that are multiples of it.
    tile: int = 1

    def __init__(self, cache: PagedKVCache) -> None:
        self.cache = cache

    @abc.abstractmethod
    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        plan: AttentionPlan,
    ) -> torch.Tensor:
        """Store a step's keys and values and attend over everything each row may see.

        Args:
            layer: Index of the layer.
            query: ``[rows, heads, head_dim]``.
            key: ``[rows, kv_heads, head_dim]``, rotated.
            value: ``[rows, kv_heads, head_dim]``.
            plan: The step's plan.

        Returns:
            ``[rows, heads, head_dim]`` in the query's type.
        """
