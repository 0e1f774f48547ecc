"""Fixtures of the runtime tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def demo_path_and_template(demo_path: Path, demo_model: str) -> dict[str, str]:
    """Keywords that load the demo checkpoint on CPU."""
    return {"model": demo_model, "template": "aquila-v1", "device": "cpu"}
