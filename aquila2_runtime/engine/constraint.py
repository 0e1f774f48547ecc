"""TokenConstraint: what an engine asks of a constraint on one answer. It knows no text.

One object belongs to one answer and is used by the engine's thread alone. For every step the
engine takes ``mask``, chooses an id under it, lets ``settle`` have the last word, and ``advance``
makes it part of the answer. Where it wants one id and no other, it asks ``allows`` first, which
costs less than a mask. A step that is run again after a failure asks all of it again without
having advanced.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any


class TokenConstraint(abc.ABC):
    """Says which ids may come next."""

    @abc.abstractmethod
    def mask(self) -> bytes | None:
        """Return one bit per id, the lowest first, set where allowed; None allows every id.

        Raises:
            GenerationError: The constraint could not be followed within its limits.
        """

    @abc.abstractmethod
    def allows(self, token_id: int) -> bool:
        """Whether an id is certain to be allowed by the mask; False leaves it to the mask.

        Raises:
            GenerationError: The constraint could not be followed within its limits.
        """

    @abc.abstractmethod
    def settle(self, token_id: int) -> int:
        """Return the id to take: the one chosen, or another that still lets the answer end.

        Raises:
            GenerationError: The constraint could not be followed within its limits.
        """

    @abc.abstractmethod
    def advance(self, token_id: int) -> None:
        """Note that a settled id was taken."""

    @property
    @abc.abstractmethod
    def ended(self) -> bool:
        """Whether nothing but the end of the answer can follow."""

    @property
    @abc.abstractmethod
    def cut(self) -> bool:
        """Whether the answer was closed because few tokens were left."""


def is_set(mask: bytes | None, token_id: int) -> bool:
    """Whether a mask allows an id; None allows every one."""
    return mask is None or bool(mask[token_id // 8] >> token_id % 8 & 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """A constraint for an engine elsewhere, which holds answers to it there.

    Attributes:
        asked: In the words of vLLM's ``structured_outputs``.
        rule: Makes what follows an answer that is not to be closed for its length.
    """

    asked: Mapping[str, Any]
    rule: Callable[[], TokenConstraint]
