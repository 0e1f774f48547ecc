"""The demo's files with weights drawn at random: a model whose answers owe nothing to training."""

from __future__ import annotations

import shutil
from pathlib import Path


def untrained_copy(demo: Path, target: Path) -> str:
    """Copy the demo checkpoint and draw its weights anew; always the same ones."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(demo, target, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    generator = torch.Generator().manual_seed(0)
    weights = load_file(target / "model.safetensors")
    noise = {
        name: (torch.randn(one.shape, generator=generator) * 0.05).to(one.dtype)
        for name, one in weights.items()
    }
    save_file(noise, target / "model.safetensors", metadata={"format": "pt"})
    return str(target)
