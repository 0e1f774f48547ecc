"""BM25: texts ranked by the words they share with a query. It knows no model and no tokenizer.

Chinese and Japanese are written without spaces: their characters count alone and in pairs, which
finds more than words from a dictionary do and needs none.
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

# How fast more of the same word stops to count, and how much a long text is held against it.
_SATURATION: Final = 1.5
_LENGTH: Final = 0.75
_CJK: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_WORDS: Final = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")
_IS_CJK: Final = re.compile(rf"[{_CJK}]")


def terms(text: str) -> Iterator[str]:
    """Yield a text's terms: words in lower case, characters and pairs of them where it has none.

    Example:
        >>> list(terms("王芳's Code"))
        ['王', '芳', '王芳', 's', 'code']
    """
    for found in _WORDS.findall(unicodedata.normalize("NFKC", text).lower()):
        if not _IS_CJK.match(found):
            yield found
            continue
        yield from found
        yield from map("".join, itertools.pairwise(found))


class BM25:
    """Ranks a fixed list of texts.

    Args:
        texts: In any order.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._counts = [Counter(terms(text)) for text in texts]
        self._lengths = [counts.total() for counts in self._counts]
        self._mean = sum(self._lengths) / max(len(texts), 1) or 1.0
        self._holders: Counter[str] = Counter()
        for counts in self._counts:
            self._holders.update(counts.keys())

    def rank(self, query: str, most: int) -> list[tuple[int, float]]:
        """Return the places of the texts that match best, with their scores, best first.

        Args:
            query: A question.
            most: How many at most; texts that share nothing with it are left out.
        """
        asked = set(terms(query)) & self._holders.keys()
        scored = ((place, self._score(place, asked)) for place in range(len(self._counts)))
        matching = [(place, score) for place, score in scored if score > 0]
        # Equal ones stay in their order.
        return sorted(matching, key=lambda found: -found[1])[:most]

    def _score(self, place: int, asked: set[str]) -> float:
        counts, total = self._counts[place], len(self._counts)
        long = 1 - _LENGTH + _LENGTH * self._lengths[place] / self._mean
        score = 0.0
        # In a fixed order: floats added in another may differ in the last digit.
        for term in sorted(asked & counts.keys()):
            holders = self._holders[term]
            rarity = math.log(1 + (total - holders + 0.5) / (holders + 0.5))
            count = counts[term]
            score += rarity * count * (_SATURATION + 1) / (count + _SATURATION * long)
        return score
