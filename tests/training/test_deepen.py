"""A deeper checkpoint says what the one before said, until it is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures_checkpoint import make_checkpoint
from training.aquila2_demo.deepen import deepen
from training.aquila2_demo.model import Network, Shape
from training.aquila2_demo.train import load_start


def test_copies_follow_their_layers_and_are_silent(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "two", layout="safetensors", num_key_value_heads=2)
    deepen(folder, [0, 1], tmp_path / "four")
    before, after = (load_file(p / "model.safetensors") for p in (folder, tmp_path / "four"))
    config = json.loads((tmp_path / "four" / "config.json").read_text(encoding="utf-8"))
    assert config["num_hidden_layers"] == 4
    for name, weight in after.items():
        if not name.startswith("model.layers."):
            assert torch.equal(weight, before[name])
            continue
        _, _, number, part = name.split(".", 3)
        old = before[f"model.layers.{int(number) // 2}.{part}"]
        quiet = int(number) % 2 and part in ("self_attn.o_proj.weight", "mlp.down_proj.weight")
        assert torch.equal(weight, torch.zeros_like(old) if quiet else old)
    assert len(after) == len(before) + sum(n.startswith("model.layers.") for n in before)


@pytest.mark.parametrize("after", [[2], [-1], [0, 0]])
def test_layers_that_are_not_there_are_refused(tmp_path: Path, after: list[int]) -> None:
    folder = make_checkpoint(tmp_path / "two", layout="safetensors", num_key_value_heads=2)
    with pytest.raises(ValueError, match="has layers 0 to 1"):
        deepen(folder, after, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_does_not_go_on_from_another_depth(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "two", layout="safetensors", num_key_value_heads=2)
    net = Network(Shape(vocab=64, layers=3))
    with pytest.raises(ValueError, match=r"has 2 layers, not 3; see deepen\.py"):
        load_start(net, folder)
