"""What aquila2-demo reads well; other models are left to choose by their context."""

from __future__ import annotations

from llamaindex_aquila2 import Aquila2

_SMALL = {"passage_tokens": 64, "top_k": 4}


def passages_for(llm: Aquila2) -> dict[str, int]:
    """Keywords of ``LongDocument`` for a model's passages."""
    return _SMALL if llm.metadata.model_name == "aquila2-demo" else {}
