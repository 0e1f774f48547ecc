"""Owns making a checkpoint deeper: the same function, with layers that can learn to add to it.

A layer that follows a copy of itself whose outputs are zero changes nothing; what it takes in, it
takes in as a trained layer does (block expansion; Wu et al., 2024, arXiv:2401.02415).
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .average import WEIGHTS

LAYERS = "model.layers."
SILENT = ("self_attn.o_proj.weight", "mlp.down_proj.weight")


def deepen(folder: Path, after: Sequence[int], out: Path) -> None:
    """Writes a checkpoint with copies of some layers behind them, silent until trained.

    Args:
        folder: A checkpoint folder.
        after: Which layers, from 0, a copy follows.
        out: The folder to write; all but the weights and the number of layers is as it was.

    Raises:
        ValueError: The checkpoint has no such layer, or one is named twice.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    many = config["num_hidden_layers"]
    if len(set(after)) != len(after) or not set(after) <= set(range(many)):
        raise ValueError(f"{folder} has layers 0 to {many - 1}, each to be copied once: {after}")
    held, made = load_file(folder / WEIGHTS), dict[str, torch.Tensor]()
    for name, weight in held.items():
        if not name.startswith(LAYERS):
            made[name] = weight
            continue
        number, part = name.removeprefix(LAYERS).split(".", 1)
        at = int(number) + sum(a < int(number) for a in after)
        made[f"{LAYERS}{at}.{part}"] = weight
        if int(number) in after:
            copy = torch.zeros_like(weight) if part in SILENT else weight.clone()
            made[f"{LAYERS}{at + 1}.{part}"] = copy
    shutil.copytree(folder, out, dirs_exist_ok=True)
    save_file(made, out / WEIGHTS, metadata={"format": "pt"})
    (out / WEIGHTS).chmod(0o644)
    config["num_hidden_layers"] = many + len(after)
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Reads the command line and writes the deeper checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the checkpoint")
    parser.add_argument("--after", type=int, nargs="+", required=True, help="layers, from 0")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    deepen(args.folder, args.after, args.out)


if __name__ == "__main__":
    main()
