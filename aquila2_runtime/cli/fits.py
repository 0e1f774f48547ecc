"""Which ways of loading a checkpoint would fit into the memory there is. It loads nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.load_options import LoadOptions


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


def ways_that_fit(options: LoadOptions, config: ModelConfig, free: int) -> Iterator[Way]:
    """Yield what fits, the most exact first.

    Args:
        options: What was asked for; device and type are kept.
        config: The checkpoint.
        free: Bytes there are.
    """
    from aquila2_runtime.placement import choose, estimate

    stored = config.prequantized
    for quantization in (None, "int8", "nf4") if stored is None else (stored.method,):
        for kv_cache_dtype in (None, "int8"):
            tried = dataclasses.replace(
                options,
                quantization=quantization,
                kv_cache_dtype=kv_cache_dtype,
                max_model_len=None,
                progress=None,
            )
            placement = choose(tried, config)
            fits = estimate(tried, config, placement, config.max_position).largest_context(free)
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
