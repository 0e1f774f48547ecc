"""The mean of two checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.aquila2_demo.average import average


def folder(path: Path, value: float, size: int = 3) -> Path:
    path.mkdir()
    save_file({"w": torch.full((2, size), value).bfloat16()}, path / "model.safetensors")
    (path / "config.json").write_text(f'{{"from": "{path.name}"}}', encoding="utf-8")
    return path


def test_weights_lie_between_and_the_rest_is_the_second_s(tmp_path: Path) -> None:
    first, second = folder(tmp_path / "first", 1.0), folder(tmp_path / "second", 2.0)
    average(first, second, 0.25, tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")["w"]
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, torch.full((2, 3), 1.25).bfloat16())
    assert "second" in (tmp_path / "out" / "config.json").read_text(encoding="utf-8")


def test_other_shapes_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    first, second = folder(tmp_path / "first", 1.0), folder(tmp_path / "second", 2.0, size=4)
    with pytest.raises(ValueError, match="different names or shapes"):
        average(first, second, 0.5, tmp_path / "out")
    assert not (tmp_path / "out").exists()
