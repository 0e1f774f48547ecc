"""Aquila2 for LlamaIndex: a model, and questions about a document; importable without torch."""

from __future__ import annotations

from llamaindex_aquila2.base import Aquila2
from llamaindex_aquila2.long_document import DocumentAnswer, LongDocument, Source

__all__ = ["Aquila2", "DocumentAnswer", "LongDocument", "Source"]
