"""Whether, where and how a checkpoint fits into the memory there is. It loads nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from aquila2_runtime.checkpoint.free_memory import available_memory
from aquila2_runtime.checkpoint.memory import MemoryEstimate
from aquila2_runtime.checkpoint.shortage import does_not_fit
from aquila2_runtime.checkpoint.splitting import balance, longest, parts_of
from aquila2_runtime.engine.stages import stages_of
from aquila2_runtime.errors import InvalidLoadOptionError
from aquila2_runtime.placement import Placement, choose, estimate, on_several

if TYPE_CHECKING:
    import torch

    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.checkpoint.splitting import Parts
    from aquila2_runtime.errors import InsufficientMemoryError
    from aquila2_runtime.load_options import LoadOptions

_MOST_GPUS: Final = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """Options that fit, and how long a context they leave room for.

    Attributes:
        options: What to pass to ``load``, as it is written there.
        max_model_len: The longest request that fits.
    """

    options: str
    max_model_len: int

    def __str__(self) -> str:
        """Return it for people."""
        return f"{self.options}: up to {self.max_model_len} tokens"


def free_memory(devices: Sequence[torch.device]) -> list[int]:
    """Bytes that each device has free now."""
    return [available_memory(str(device)) for device in devices]


def settle(
    options: LoadOptions,
    config: ModelConfig,
    placement: Placement,
    max_model_len: int,
    adapters: int = 0,
) -> tuple[Placement, MemoryEstimate]:
    """Settle on which devices a load goes, by the memory they have free now.

    Left to choose ("auto"), it takes one device where that suffices, and otherwise as few as do.

    Args:
        options: What was asked for.
        config: The checkpoint.
        placement: Types, and the devices that may be used.
        max_model_len: The longest request, in tokens.
        adapters: Bytes of the LoRA adapters beside the weights.

    Returns:
        The placement with its stages, and what is needed in all.

    Raises:
        InsufficientMemoryError: It does not fit; the hint says what would.
        InvalidLoadOptionError: Captured steps were asked for, which one device alone has.
    """
    devices = placement.candidates
    free = free_memory(devices)
    needed = estimate(options, config, placement, max_model_len, adapters=adapters)
    if len(devices) == 1:
        if needed.total > free[0]:
            raise _refusal(options, config, needed, free)
        return placement, needed
    listed = not isinstance(options.device, str)
    if not listed:
        for device, room in zip(devices, free, strict=True):
            alone = _alone(options, config, device, placement)
            if alone is not None:
                own = estimate(options, config, alone, max_model_len, adapters=adapters)
                if own.total <= room:
                    return alone, own
    spread = on_several(options, placement)
    needed = estimate(options, config, spread, max_model_len, adapters=adapters)
    parts = _parts(config, needed, spread)
    rooms = _usable(free, needed)
    # The freest first; their order among the layers stays that of their numbers.
    order = sorted(range(len(devices)), key=lambda at: -rooms[at])
    for count in range(len(devices) if listed else 2, len(devices) + 1):
        chosen = sorted(order[:count])
        counts = balance(parts, [rooms[at] for at in chosen], max_model_len)
        if counts is not None:
            stages = stages_of([devices[at] for at in chosen], counts)
            told = ", ".join(f"{stage.count} layers on {stage.device}" for stage in stages)
            spread.reasons["device"] = f"by their free memory: {told}"
            return dataclasses.replace(spread, device=stages[0].device, stages=stages), needed
    raise _refusal(options, config, needed, free)


def ways_that_fit(
    options: LoadOptions, config: ModelConfig, free: Sequence[int], adapters: int = 0
) -> Iterator[Way]:
    """Yield what fits, the most exact first.

    Args:
        options: What was asked for; all but quantization, cache type and length is kept, and what
            cannot be with that is passed over.
        config: The checkpoint.
        free: Bytes that each device has.
        adapters: Bytes of the LoRA adapters beside the weights.
    """
    stored = config.prequantized
    for quantization in (None, "int8", "nf4") if stored is None else (stored.method,):
        for kv_cache_dtype in (None, "int8"):
            tried = dataclasses.replace(
                options,
                quantization=quantization,
                kv_cache_dtype=kv_cache_dtype,
                max_model_len=None,
                nf4_copy=False,
                progress=None,
            )
            try:
                fits = _context(tried, config, free, adapters)
            except InvalidLoadOptionError:
                continue
            if fits:
                given = [
                    f'{name}="{value}"'
                    for name, value in (
                        ("quantization", quantization),
                        ("kv_cache_dtype", kv_cache_dtype),
                    )
                    if value is not None
                ]
                yield Way(", ".join(given) or "no quantization", fits)


def gpus_that_fit(
    options: LoadOptions, config: ModelConfig, room: int, max_model_len: int, adapters: int = 0
) -> int | None:
    """How many GPUs with so much free memory hold a checkpoint as it is asked for.

    Args:
        options: What was asked for.
        config: The checkpoint.
        room: Bytes that each has free.
        max_model_len: The longest request, in tokens.
        adapters: Bytes of the LoRA adapters beside the weights.

    Returns:
        The fewest that do, from two on; None where 16 do not.
    """
    spread = on_several(dataclasses.replace(options, cuda_graphs=None), choose(options, config))
    needed = estimate(options, config, spread, max_model_len, adapters=adapters)
    parts = _parts(config, needed, spread)
    for count in range(2, _MOST_GPUS + 1):
        if balance(parts, _usable([room] * count, needed), max_model_len) is not None:
            return count
    return None


def _context(options: LoadOptions, config: ModelConfig, free: Sequence[int], adapters: int) -> int:
    """The longest request that fits on one of the devices, or on all of them together."""
    placement = choose(options, config)
    needed = estimate(options, config, placement, config.max_position, adapters=adapters)
    alone = max(needed.largest_context(room) for room in free)
    if len(free) == 1:
        return alone
    spread = on_several(dataclasses.replace(options, cuda_graphs=None), placement)
    needed = estimate(options, config, spread, config.max_position, adapters=adapters)
    rooms = _usable(free, needed)
    return max(alone, longest(_parts(config, needed, spread), rooms, config.max_position))


def _alone(
    options: LoadOptions, config: ModelConfig, device: torch.device, placement: Placement
) -> Placement | None:
    """The placement on one of several devices, with what that one can do; None where it cannot.

    An older card beside it does not count: types and kernels that only both have are not needed.
    """
    try:
        own = choose(dataclasses.replace(options, device=str(device)), config)
    except InvalidLoadOptionError:
        return None
    own = dataclasses.replace(own, candidates=placement.candidates)
    return own.on(device, config, "the model fits on this one")


def _parts(config: ModelConfig, needed: MemoryEstimate, placement: Placement) -> Parts:
    """What is divided, as large as it is for ``_usable`` memory."""
    parts = parts_of(config, needed, placement.dtype.itemsize)
    weights = {name: int(getattr(parts, name) * needed.keep) for name in ("layer", "first", "last")}
    return dataclasses.replace(parts, **weights)


def _usable(free: Sequence[int], needed: MemoryEstimate) -> list[int]:
    """What can be used of each device: of what its weights leave, the allocator needs some."""
    return [int(room * needed.keep) for room in free]


def _refusal(
    options: LoadOptions, config: ModelConfig, needed: MemoryEstimate, free: Sequence[int]
) -> InsufficientMemoryError:
    """What does not fit, with the table, and with everything that would fit instead."""
    ways = [str(way) for way in ways_that_fit(options, config, free, needed.adapters)]
    if choose(options, config).device.type == "cuda":
        alone, told = not ways, "with all that was asked for"
        packed = dataclasses.replace(options, quantization="nf4", nf4_copy=False)
        for tried, name in ((options, told), (packed, 'with quantization="nf4"')):
            try:
                count = gpus_that_fit(tried, config, max(free), needed.length, needed.adapters)
            except InvalidLoadOptionError:
                count = None
            if count is not None and count > len(free):
                ways.append(f"{count} GPUs of this size, {name}")
            # Packed weights need fewer; where one device holds them that has been said.
            if not alone or options.quantization == "nf4" or config.prequantized is not None:
                break
    return does_not_fit(needed, free, ways)
