"""What is said where memory does not suffice. It measures and allocates nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aquila2_runtime.checkpoint.memory import size_text
from aquila2_runtime.errors import InsufficientMemoryError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.memory import MemoryEstimate

# What weights are called that are not packed.
_WHOLE: Final = ("float32", "float16", "bfloat16")


def ran_out(
    name: str, device: object, estimate: MemoryEstimate, error: Exception
) -> InsufficientMemoryError:
    """What was reckoned to fit does not: something took memory meanwhile, or it needs more.

    Args:
        name: The checkpoint.
        device: Where it goes.
        estimate: What was reckoned.
        error: The device's own.
    """
    return InsufficientMemoryError(
        f"{device} ran out of memory while {name} was made ready for {estimate.length} tokens, "
        f"which was reckoned to take\n{estimate.table()}\n{error}",
        parameter="max_model_len",
        value=estimate.length,
        hint="Free the device, or load with a smaller max_model_len or max_num_seqs"
        + (', or with quantization="nf4".' if estimate.weights_label in _WHOLE else "."),
    )


def does_not_fit(
    estimate: MemoryEstimate, free: Sequence[int], ways: Sequence[str] = ()
) -> InsufficientMemoryError:
    """Return the error for what cannot fit, with the table and the largest context that would.

    Args:
        estimate: What is needed.
        free: Bytes that each device has free.
        ways: Other ways to load it that would fit, for the hint.
    """
    fits = estimate.largest_context(free[0]) if len(free) == 1 else 0
    hints = [f"Load with max_model_len={fits} or less."] if fits else []
    if ways:
        hints.append(f"What {'also ' * bool(fits)}fits: {'; '.join(ways)}.")
    elif not fits and estimate.weights_label in _WHOLE:
        hints.append(
            'The weights alone do not fit: load with quantization="nf4", or on another device.'
        )
    elif not fits:
        hints.append("The weights alone do not fit: use a larger device or a smaller checkpoint.")
    told = " and ".join(map(size_text, free))
    return InsufficientMemoryError(
        f"The model needs {size_text(estimate.total)}; {told} are free.\n{estimate.table()}\n",
        parameter="max_model_len" if fits else "model",
        value=estimate.kv_tokens if fits else None,
        hint=" ".join(hints),
    )
