"""How many KV blocks a load gets, and why. It allocates nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aquila2_runtime.checkpoint.free_memory import available_memory
from aquila2_runtime.checkpoint.memory import kv_token_bytes
from aquila2_runtime.errors import InsufficientMemoryError
from aquila2_runtime.placement import BLOCK_SIZE

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.checkpoint.memory import MemoryEstimate
    from aquila2_runtime.load_options import LoadOptions
    from aquila2_runtime.placement import Placement

_CPU_CACHE_BYTES: Final = 512 * 2**20


def kv_bytes_per_token(config: ModelConfig, placement: Placement) -> int:
    """Bytes of one token's keys and values over all layers."""
    return kv_token_bytes(config, placement.kv_dtype.itemsize, columns=placement.kv_columns)


def cache_blocks(
    options: LoadOptions,
    config: ModelConfig,
    placement: Placement,
    free: int | Sequence[int],
    max_model_len: int,
    reserve: int = 0,
) -> tuple[int, str]:
    """How many KV blocks to make, and why.

    Args:
        options: What was asked for.
        config: The checkpoint.
        placement: Its place.
        free: Memory the device has left now that the weights are loaded; of each stage's device.
        max_model_len: The longest request, in tokens.
        reserve: Bytes of it that steps need, on every device.

    Raises:
        InsufficientMemoryError: Not even one request of full length fits, or what was asked for
            is not there.
    """
    block = kv_bytes_per_token(config, placement) * BLOCK_SIZE
    one = -(-max_model_len // BLOCK_SIZE)
    most = one * placement.max_num_seqs
    asked = options.kv_cache_bytes
    on_cuda = placement.device.type == "cuda"
    rooms = [free] if isinstance(free, int) else free
    free_bytes = _room(placement, rooms, reserve * on_cuda, placement.keep)
    if asked is not None:
        budget, reason = asked, "kv_cache_memory was given"
        _check_there(min(asked, (most + 1) * block), _room(placement, rooms, 0, 1), asked)
    elif on_cuda:
        budget, reason = free_bytes, "what weights, workspace and captured steps leave"
    else:
        budget = max(min(_CPU_CACHE_BYTES, _room(placement, rooms, reserve, 1)), one * block)
        reason = "512 MiB or what is free, or one full context where that is more"
    # The padding block comes on top of what requests hold.
    blocks = min(budget // block - 1 if asked is not None else budget // block, most)
    if blocks < one or (asked is None and blocks * block > free_bytes):
        spare = 1 if asked is not None else 0
        fits = max(min(budget, free_bytes) // block - spare, 0) * BLOCK_SIZE
        raise InsufficientMemoryError(
            f"Keys and values of {max_model_len} tokens need {(one + 1) * block / 2**20:.1f} MiB; "
            f"{min(budget, free_bytes) / 2**20:.1f} MiB are there.",
            parameter="kv_cache_memory" if asked is not None else "max_model_len",
            value=asked if asked is not None else max_model_len,
            hint=(f"Load with max_model_len={fits} or less, or give" if fits else "Give")
            + " kv_cache_memory more room.",
        )
    if blocks == most:
        reason = f"max_num_seqs={placement.max_num_seqs} requests of full length"
    return blocks, reason


def check_asked(
    options: LoadOptions, config: ModelConfig, placement: Placement, needed: MemoryEstimate
) -> None:
    """Refuse a ``kv_cache_memory`` that cannot be there beside the weights, before these are read.

    Once they are there ``cache_blocks`` looks again. Over several devices it alone does: what each
    holds is settled by then.

    Raises:
        InsufficientMemoryError: There is not so much.
    """
    if options.kv_cache_bytes is not None and len(placement.stages) == 1:
        left = max(available_memory(str(placement.device)) - needed.held, 0)
        cache_blocks(options, config, placement, left, needed.length, needed.reserve)


def _check_there(needed: int, free: int, asked: int) -> None:
    """An explicit size may take what steps need, but no more than there is."""
    if needed > free:
        raise InsufficientMemoryError(
            f"kv_cache_memory={asked / 2**20:.0f} MiB was given; {free / 2**20:.0f} MiB are free "
            "beside the weights.",
            parameter="kv_cache_memory",
            value=asked,
            hint="Give less, or leave it out: then it follows from what is free.",
        )


def _room(placement: Placement, free: Sequence[int], reserve: int, keep: float) -> int:
    """Bytes of keys and values that all layers together may take: the fullest device decides."""
    layers = sum(stage.count for stage in placement.stages)
    return min(
        max(int(room * keep) - reserve, 0) * layers // stage.count
        for room, stage in zip(free, placement.stages, strict=True)
    )
