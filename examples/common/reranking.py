"""Passages put in a better order for one question: by their best sentence, or by BGE's reranker."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from common.embeddings import Embedder

SENTENCE = re.compile(r".+?(?:[。！？；]|[.!?](?=\s)|\n|\Z)", re.DOTALL)

Scorer = Callable[[str, Sequence[str]], list[float]]


def by_best_sentence(embedder: Embedder) -> Scorer:
    """Score a passage by its nearest sentence: finer than the passage's vector, and offline."""

    def score(question: str, passages: Sequence[str]) -> list[float]:
        [asked] = embedder.queries([question])
        best = []
        for passage in passages:
            sentences = [found.strip() for found in SENTENCE.findall(passage) if found.strip()]
            vectors = embedder.passages(sentences)
            best.append(max(sum(a * b for a, b in zip(asked, v, strict=True)) for v in vectors))
        return best

    return score


def by_cross_encoder(name: str) -> Scorer:
    """Score question and passage together, as BAAI/bge-reranker-large and its kin do."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(name)
    model: Any = AutoModelForSequenceClassification.from_pretrained(name).eval()

    def score(question: str, passages: Sequence[str]) -> list[float]:
        pairs = tokenizer(
            [question] * len(passages),
            list(passages),
            padding=True,
            truncation=True,
            max_length=512,
            return_tensors="pt",
        )
        with torch.inference_mode():
            scores: list[float] = model(**pairs).logits[:, 0].float().tolist()
        return scores

    return score
