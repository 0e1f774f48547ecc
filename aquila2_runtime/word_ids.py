"""WordIds: text cut into words whose ids are remembered. It knows neither merges nor controls.

Encoding a word costs many times what finding it again does, and most words come again. So do whole
texts: a document and a talk stand before every next question, and are counted before they are
asked about. These are remembered too, long ones in blocks, whose beginnings do not depend on what
follows. A text is cut only where every expression of ``byte_level.SPLITS`` begins a new word
whatever stands around, so that the ids of the pieces are, one after the other, the ids of the text:

* between a letter or digit and a space, a line end or a punctuation mark: no expression joins a
  letter or digit with one of these behind it;
* between a punctuation mark and a space or tab, for the same reason.

Never behind a space: how many spaces make one word depends on what follows them. Letters are those
that have been letters in every version of Unicode.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Final

_LETTERS: Final = r"0-9A-Za-z\u4e00-\u9fa5"
_MARKS: Final = r"!-/:-@\[-`{-~、。，！？；："
_BORDER: Final = re.compile(rf"(?=[\t\n\r {_MARKS}])(?:(?<=[{_LETTERS}])|(?<=[{_MARKS}])(?=[\t ]))")
_WORDS: Final = 16_384  # that are remembered
_LONGEST: Final = 32  # characters of a word that is
# A long text is encoded this many characters at a time: other threads, an event loop's among them,
# get their turn in between.
_BLOCK: Final = 4_096
_SHORT: Final = 256  # a text of fewer characters is not worth remembering
_REMEMBERED: Final = 1_000_000  # characters and ids of texts: some 5 MB, 40 at worst


class WordIds:
    """Encodes text word by word, and remembers. Safe to use from any number of threads.

    Args:
        encode: Ids of a text.
        encode_apart: The same for a long text, letting other threads run meanwhile.
    """

    def __init__(
        self, encode: Callable[[str], list[int]], encode_apart: Callable[[str], list[int]]
    ) -> None:
        self._known = _Known(encode)
        self._encode_apart = encode_apart
        self._texts: dict[str, list[int]] = {}
        self._size = 0  # of these texts, or more: two threads may count one twice

    def encode(self, text: str) -> list[int]:
        """Return the ids of text."""
        if len(text) < _SHORT:
            return self._words(text)
        ids: list[int] = []
        for block in _blocks(text):
            ids += self._block(block) if len(block) <= 2 * _BLOCK else self._encode_apart(block)
        return ids

    def _block(self, text: str) -> list[int]:
        """The ids of a text that may come again; not to be changed."""
        found = self._texts.get(text)
        if found is None:
            found = self._words(text)
            size = len(text) + len(found)
            if self._size + size > _REMEMBERED:
                self._texts.clear()
                self._size = 0
            self._texts[text] = found
            self._size += size
        return found

    def _words(self, text: str) -> list[int]:
        words = _BORDER.split(text)
        return list(itertools.chain.from_iterable(map(self._known.__getitem__, words)))


class _Known(dict[str, list[int]]):
    """Ids by words; forgets all of them when there are too many."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, word: str) -> list[int]:
        """Return the ids of a word that is new."""
        ids = self._encode(word)
        if len(word) <= _LONGEST:
            if len(self) >= _WORDS:
                self.clear()
            self[word] = ids
        return ids


def _blocks(text: str) -> Iterator[str]:
    """Cut a text at a border once in a while."""
    start = 0
    while start < len(text):
        border = _BORDER.search(text, start + _BLOCK)
        end = len(text) if border is None else border.start()
        yield text[start:end]
        start = end
