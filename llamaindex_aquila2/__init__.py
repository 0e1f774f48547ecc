"""Aquila2 for LlamaIndex: one model class over the runtime, importable without torch."""

from __future__ import annotations

from llamaindex_aquila2.base import Aquila2

__all__ = ["Aquila2"]
