"""DocumentAnswer: what a question about a document gets. It asks nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

from llamaindex_aquila2._passages import Source


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DocumentAnswer:
    """An answer about a document, or what there is of it so far.

    Attributes:
        text: The answer so far.
        delta: What is new; None for a whole answer.
        whole: Whether the model read the whole document.
        sources: The passages that were shown, or, where the whole document was, those that match
            question and answer best; in the order of the document. Empty until the last piece.
        raw: See ``Aquila2``; ``raw["usage"]["cached_tokens"]`` tells how much of the prompt was
            not read again.
    """

    text: str
    delta: str | None
    whole: bool
    sources: tuple[Source, ...]
    raw: dict[str, Any]
