"""Splitting: how many layers go to each device, by the memory that each has free. It moves nothing.

A layer is never divided. Devices are filled so that the cache, which must hold the same tokens in
every layer, becomes as long as the fullest device allows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.checkpoint.memory import MemoryEstimate

_BLOCK = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """What a model is divided into, in bytes.

    Attributes:
        layers: How many there are.
        layer: Of one layer's weights, and of what adapters have beside them.
        first: Of the embedding, which is on the first device.
        last: Of the last norm and the head, which are on the last one.
        each: Of a step's workspace, on every device.
        kv: Of one token's keys and values in one layer.
    """

    layers: int
    layer: int
    first: int
    last: int
    each: int
    kv: int

    def fixed(self, at: int, devices: int) -> int:
        """Bytes that a device holds beside its layers.

        Args:
            at: Which of them.
            devices: How many there are.
        """
        return self.each + self.first * (at == 0) + self.last * (at == devices - 1)

    def held(self, at: int, counts: Sequence[int], tokens: int) -> int:
        """Bytes that a device holds in all.

        Args:
            at: Which of them.
            counts: Layers on each.
            tokens: That the cache holds.
        """
        return self.fixed(at, len(counts)) + counts[at] * (self.layer + tokens * self.kv)


def parts_of(config: ModelConfig, estimate: MemoryEstimate, item: int) -> Parts:
    """Divide an estimate.

    Args:
        config: The checkpoint.
        estimate: Of it on one device.
        item: Bytes of a number that is not packed.
    """
    table = config.vocab_size * config.hidden_size * item
    norm = config.hidden_size * item
    tables = table if config.tie_word_embeddings else 2 * table
    layers = estimate.weights + estimate.copy + estimate.adapters - tables - norm
    return Parts(
        layers=config.num_layers,
        layer=-(-layers // config.num_layers),
        first=table,
        # A tied head on another device is a copy.
        last=table + norm,
        each=estimate.workspace,
        kv=-(-estimate.kv_per_token // config.num_layers),
    )


def balance(parts: Parts, free: Sequence[int], tokens: int) -> tuple[int, ...] | None:
    """Say how many layers each device gets, at least one.

    Args:
        parts: The model's.
        free: Bytes that each device has free, in the order of the layers.
        tokens: That the cache must hold.

    Returns:
        As many numbers as devices; None where the model does not fit.
    """
    if len(free) > parts.layers or not _fits(parts, free, tokens):
        return None
    low, high = tokens, max(tokens + _BLOCK, max(free) // max(parts.kv, 1))
    while high - low > _BLOCK:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(parts, free, middle) else (low, middle)
    counts = _most(parts, free, low)
    while sum(counts) > parts.layers:
        # What would be left on a device with one layer less: the fullest gives it up.
        left = [
            free[at] - parts.held(at, counts, low) if counts[at] > 1 else max(free) + 1
            for at in range(len(free))
        ]
        counts[left.index(min(left))] -= 1
    return tuple(counts)


def longest(parts: Parts, free: Sequence[int], most: int) -> int:
    """Tokens of cache that fit beside the model, a multiple of 16 up to ``most``; 0 if none do."""
    low, high = 0, most // _BLOCK
    if len(free) > parts.layers or not _fits(parts, free, _BLOCK):
        return 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _fits(parts, free, middle * _BLOCK) else (low, middle - 1)
    return low * _BLOCK


def _most(parts: Parts, free: Sequence[int], tokens: int) -> list[int]:
    """The layers that each device could hold."""
    size = parts.layer + tokens * parts.kv
    return [max((room - parts.fixed(at, len(free))) // size, 0) for at, room in enumerate(free)]


def _fits(parts: Parts, free: Sequence[int], tokens: int) -> bool:
    counts = _most(parts, free, tokens)
    return min(counts) > 0 and sum(counts) >= parts.layers
