"""Models over the demo checkpoint, and LlamaIndex's globals put back after each test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Settings

from aquila2_runtime import Aquila2Runtime
from llamaindex_aquila2 import Aquila2
from tests.conftest import EMBEDDED
from tests.llamaindex.support import MakeLLM


@pytest.fixture(scope="session")
def spec(demo_path: Path, demo_model: str) -> dict[str, Any]:
    """Load options of the demo checkpoint, equal to those of ``demo_runtime``."""
    template = None if demo_path == EMBEDDED else "aquila-v1"
    return {"model": demo_model, "device": "cpu", "template": template}


@pytest.fixture
def make_llm(spec: dict[str, Any], demo_runtime: Aquila2Runtime) -> MakeLLM:
    """Make a greedy model; ``demo_runtime`` keeps its weights loaded from test to test."""

    def make(**fields: Any) -> Aquila2:
        return Aquila2(**{**spec, "temperature": 0, **fields})

    return make


@pytest.fixture
def llm(make_llm: MakeLLM) -> Aquila2:
    """A greedy model with short answers."""
    return make_llm(max_tokens=24)


@pytest.fixture(autouse=True)
def llama_index_globals() -> Iterator[None]:
    """Put LlamaIndex's process-wide settings back."""
    import llama_index.core

    kept = dict(vars(Settings))
    tokenizer = llama_index.core.global_tokenizer
    # LlamaIndex opens a loop in this thread where there is none, and leaves it open.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()
    vars(Settings).update(kept)
    llama_index.core.global_tokenizer = tokenizer
