"""Pace: how many prompt tokens go beside streamed answers. It runs nothing and knows no requests.

Who reads an answer waits for the prompt tokens computed beside its next one. What a token takes
depends on the model and the machine by a factor of a thousand, so it is learnt from the steps.
"""

from __future__ import annotations

from typing import Final

# What a step with prompt tokens should take, so that it stays below 0.15 s, a pause that a reader
# hardly notices: every chunk of a long prompt has more to look at than the one it is judged by.
_SECONDS: Final = 0.125
# Fewer are no chunk: a step reads all the weights, whatever it holds.
_LEAST: Final = 32
_FIRST: Final = 128
# How much of what is known a faster step replaces; a slower one replaces all of it.
_WEIGHT: Final = 0.5


class Pace:
    """Learns how many prompt tokens a step may hold.

    Args:
        most: Never more than these, however fast they are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._least = min(_LEAST, most)
        self._token_seconds: float | None = None

    @property
    def tokens(self) -> int:
        """How many prompt tokens the next step may hold beside streamed answers."""
        if self._token_seconds is None:
            return min(_FIRST, self._most)
        # A clock may not have moved at all.
        wanted = _SECONDS / max(self._token_seconds, 1e-9)
        return int(min(max(wanted, self._least), self._most))

    def note(self, tokens: int, seconds: float) -> None:
        """Learn from a step.

        Args:
            tokens: Prompt tokens it held; with few of them it says nothing.
            seconds: What it took, decoding rows included.
        """
        if tokens < self._least:
            return
        each, known = seconds / tokens, self._token_seconds
        if known is not None and each < known:
            each = known + _WEIGHT * (each - known)
        self._token_seconds = each
