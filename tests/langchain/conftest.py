"""Models over the demo checkpoint."""

from __future__ import annotations

from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime
from langchain_aquila2 import ChatAquila2
from tests.conftest import EMBEDDED
from tests.langchain.support import MakeChat


@pytest.fixture(scope="session")
def spec(demo_path: Any, demo_model: str) -> dict[str, Any]:
    """Load options of the demo checkpoint, equal to those of ``demo_runtime``."""
    template = None if demo_path == EMBEDDED else "aquila-v1"
    return {"model": demo_model, "device": "cpu", "template": template}


@pytest.fixture
def make_chat(spec: dict[str, Any], demo_runtime: Aquila2Runtime) -> MakeChat:
    """Make a greedy model; ``demo_runtime`` keeps its weights loaded from test to test."""

    def make(**fields: Any) -> ChatAquila2:
        return ChatAquila2(**{**spec, "temperature": 0, **fields})

    return make


@pytest.fixture
def chat(make_chat: MakeChat) -> ChatAquila2:
    """A greedy model with short answers."""
    return make_chat(max_tokens=12)
