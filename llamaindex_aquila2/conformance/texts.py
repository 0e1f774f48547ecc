"""Texts to ask about, in two languages and code, and a small embedding that finds them."""

from __future__ import annotations

import hashlib
import math
import random
from typing import Final

from llama_index.core.base.embeddings.base import BaseEmbedding

ENGLISH: Final = "The harbour office in Rotterdam moved to the third floor in March. "
CHINESE: Final = "北京的图书馆在三月份搬到了新的大楼，读者可以从东门进入。"
CODE: Final = "def add(first: int, second: int) -> int:\n    return first + second  # simple\n"
FACTS: Final = (
    "Project Falcon was started by Lena Brandt. Its code is Q7-Green.",
    "Project Harbour was started by Omar Reyes. Its code is B2-Violet.",
    "王芳住在上海。她的电话是 58213。",
    "李强住在成都。他的电话是 90417。",
)
QUESTIONS: Final = {
    "Project Falcon code": FACTS[0],
    "Project Harbour: who started it?": FACTS[1],
    "王芳的电话": FACTS[2],
    "李强住在哪里？": FACTS[3],
}


def document(kind: str, characters: int, seed: int) -> str:
    """A text of a kind and length; mixed texts change kind from sentence to sentence."""
    chooser = random.Random(seed)
    kinds = {"en": [ENGLISH], "zh": [CHINESE], "code": [CODE], "mixed": [ENGLISH, CHINESE, CODE]}
    text = ""
    while len(text) < characters:
        text += chooser.choice(kinds[kind]).replace("three", str(chooser.randrange(10_000)))
        text += f"{chooser.randrange(10_000)} "
    return text[:characters]


class NGramEmbedding(BaseEmbedding):
    """Hashed character n-grams: deterministic, offline, good enough to find the right passage."""

    dimensions: int = 512

    def _embed(self, text: str) -> list[float]:
        vector = [0.0] * self.dimensions
        lowered = f" {text.lower()} "
        for size in (1, 2, 3):
            for start in range(len(lowered) - size + 1):
                gram = lowered[start : start + size].encode()
                digest = hashlib.blake2b(gram, digest_size=4).digest()
                vector[int.from_bytes(digest, "big") % self.dimensions] += size**2
        # Damped, so that the letters every text has do not drown the rest.
        vector = [math.log1p(value) for value in vector]
        norm = math.sqrt(sum(value * value for value in vector)) or 1.0
        return [value / norm for value in vector]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._embed(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed(text)
