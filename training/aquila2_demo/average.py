"""Owns the mean of checkpoints of one shape; it does not know how they were trained.

Weights before and after a run that began from them, or of runs that began from the same ones, lie
in one valley: their mean often keeps what each knows (Wortsman et al., 2022, arXiv:2203.05482).
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"


def average(folders: Sequence[Path], shares: Sequence[float], out: Path) -> None:
    """Writes a checkpoint whose weights lie between others.

    Args:
        folders: Checkpoint folders of one tokenizer and shape.
        shares: How much of it each of them is; divided by their sum.
        out: The folder to write; its other files are the last one's.

    Raises:
        ValueError: There are not as many shares as folders, their sum is not positive, or the
            weights differ in names or shapes.
    """
    total = sum(shares)
    if len(shares) != len(folders) or total <= 0:
        raise ValueError(f"{len(folders)} folders cannot be weighed by {list(shares)}")
    held = [load_file(folder / WEIGHTS) for folder in folders]
    shapes = [{name: tuple(t.shape) for name, t in weights.items()} for weights in held]
    for folder, shape in zip(folders, shapes, strict=True):
        if shape != shapes[0]:
            raise ValueError(f"{folders[0]} and {folder} hold weights of different names or shapes")
    mean = {}
    for name, own in held[-1].items():
        parts = zip(held, shares, strict=True)
        summed = sum(weights[name].float() * (share / total) for weights, share in parts)
        mean[name] = summed.to(own.dtype).contiguous()  # type: ignore[union-attr]
    shutil.copytree(folders[-1], out, dirs_exist_ok=True)
    save_file(mean, out / WEIGHTS, metadata={"format": "pt"})
    (out / WEIGHTS).chmod(0o644)


def main() -> None:
    """Reads the command line and writes the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="exported checkpoints")
    parser.add_argument("--shares", type=float, nargs="+", help="of each; equal if not given")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    average(args.folders, args.shares or [1.0] * len(args.folders), args.out)


if __name__ == "__main__":
    main()
