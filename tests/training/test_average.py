"""The mean of checkpoints."""

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


def test_weights_lie_between_and_the_rest_is_the_last_s(tmp_path: Path) -> None:
    values = {"first": 1.0, "second": 2.0, "third": 4.0}
    folders = [folder(tmp_path / name, value) for name, value in values.items()]
    average(folders, [2, 1, 1], tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")["w"]
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, torch.full((2, 3), 2.0).bfloat16())
    assert "third" in (tmp_path / "out" / "config.json").read_text(encoding="utf-8")


def test_other_shapes_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    first, second = folder(tmp_path / "first", 1.0), folder(tmp_path / "second", 2.0, size=4)
    with pytest.raises(ValueError, match="different names or shapes"):
        average([first, second], [1, 1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shares", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, 1.0, 1.0]])
def test_shares_that_give_no_mean_are_refused(tmp_path: Path, shares: list[float]) -> None:
    both = [folder(tmp_path / "first", 1.0), folder(tmp_path / "second", 2.0)]
    with pytest.raises(ValueError, match="cannot be weighed"):
        average(both, shares, tmp_path / "out")
