"""Fixtures of the runtime tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def own_demo(demo_path: Path, tmp_path: Path) -> dict[str, str]:
    """Keywords that load a copy of the demo checkpoint on CPU, shared with no other test."""
    copy = shutil.copytree(demo_path, tmp_path / "demo")
    return {"model": str(copy), "template": "aquila-v1", "device": "cpu"}
