"""IncrementalDetokenizer: ids to text as they come. It never sees the prompt."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from aquila2_runtime.stops import StopChecker

if TYPE_CHECKING:
    from aquila2_runtime.tokenizer import Aquila2Tokenizer

__all__ = ["IncrementalDetokenizer", "StopChecker"]


class IncrementalDetokenizer:
    """Joins the bytes of ids into text, never giving out half a character.

    Joined, what ``add`` and ``finish`` return equals ``tokenizer.decode`` of the same ids. At most
    three bytes are held back, the most a UTF-8 character can lack; bytes that are no text come out
    as U+FFFD as soon as that is certain. The cost of an id does not depend on how many came before.

    Args:
        tokenizer: Of the checkpoint.
        drop_space: Leave out a space that the text begins with.
    """

    def __init__(self, tokenizer: Aquila2Tokenizer, *, drop_space: bool = False) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._drop_space = tokenizer.adds_space or drop_space

    def add(self, token_id: int) -> str:
        """Return the text that became complete with this id; control tokens are no text.

        Raises:
            InvalidPromptError: There is no such id.
        """
        return self._first(self._decoder.decode(self._tokenizer.token_bytes(token_id)))

    def finish(self) -> str:
        """Return what is left of a character cut off at the end, as U+FFFD."""
        return self._first(self._decoder.decode(b"", final=True))

    def _first(self, text: str) -> str:
        """Take off the space that the vocabulary or the template puts before text."""
        if self._drop_space and text:
            self._drop_space = False
            return text.removeprefix(" ")
        return text
