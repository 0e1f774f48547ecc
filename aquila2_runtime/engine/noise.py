"""Noise for sampling: one number in [0, 1) from a seed and a step. It keeps no state.

SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): the
state advances by a fixed odd constant, and a finaliser with full avalanche turns it into output.
Step ``n`` of a seed is therefore computed directly, without the steps before it, so a request draws
the same numbers alone, in any batch, and after it was preempted.
"""

from __future__ import annotations

from typing import Final

_MASK: Final = 2**64 - 1
GAMMA: Final = 0x9E3779B97F4A7C15
# Shift, then multiply, twice; and a last shift.
MIX: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
LAST_SHIFT: Final = 31


def uniform(seed: int, step: int) -> float:
    """Return the number of a step, uniform in [0, 1) with 53 random bits.

    Args:
        seed: Any integer; its lower 64 bits count.
        step: Which token of the answer, from 0.
    """
    # The seed is mixed once, so that neighbouring seeds do not share shifted sequences.
    state = first_state(seed) + (step + 1) * GAMMA
    return (_mix(state & _MASK) >> 11) * 2.0**-53


def first_state(seed: int) -> int:
    """The state that a seed's steps start from: 64 bits, not negative."""
    return _mix(seed & _MASK)


def _mix(value: int) -> int:
    for shift, factor in MIX:
        value = ((value ^ (value >> shift)) * factor) & _MASK
    return value ^ (value >> LAST_SHIFT)
