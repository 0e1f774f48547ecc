"""Texts ranked by the words they share with a question, and rankings fused. It knows no vectors."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)


def pieces(text: str) -> list[str]:
    """Words, and pairs of Chinese characters, which need no dictionary."""
    pairs = [a + b for a, b in pairwise(text) if a > "\u3000" and b > "\u3000"]
    return re.findall(r"[a-z0-9]+", text.lower()) + pairs


class BM25:
    """Texts by how many of the question's rare pieces they hold."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._counts = [Counter(pieces(text)) for text in texts]
        self._mean = sum(map(Counter.total, self._counts)) / max(len(texts), 1) or 1
        self._holders = Counter(piece for counts in self._counts for piece in counts)

    def rank(self, question: str, most: int) -> list[int]:
        """Places of the texts that match best, best first; none that share nothing."""
        scores = [self._score(place, set(pieces(question))) for place in range(len(self._counts))]
        found = [place for place, score in enumerate(scores) if score > 0]
        return sorted(found, key=lambda place: -scores[place])[:most]

    def _score(self, place: int, asked: set[str]) -> float:
        counts, total = self._counts[place], len(self._counts)
        length = 0.25 + 0.75 * counts.total() / self._mean
        score = 0.0
        for piece in sorted(asked & counts.keys()):
            holders = self._holders[piece]
            rarity = math.log(1 + (total - holders + 0.5) / (holders + 0.5))
            score += rarity * counts[piece] * 2.5 / (counts[piece] + 1.5 * length)
        return score


def fuse(rankings: Iterable[Sequence[Item]], k: int = 60) -> list[Item]:
    """Reciprocal rank fusion: what several rankings have near their top comes first."""
    scores: Counter[Item] = Counter()
    for ranking in rankings:
        for place, item in enumerate(ranking, start=1):
            scores[item] += 1 / (k + place)  # type: ignore[assignment]  # counters hold floats
    return sorted(scores, key=lambda item: -scores[item])
