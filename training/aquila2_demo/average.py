"""Owns the mean of two checkpoints of one shape; it does not know how they were trained.

Weights before and after a run that began from them lie in one valley: their mean often keeps what
the first knew and has what the second learnt (Wortsman et al., 2022, arXiv:2203.05482).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"


def average(first: Path, second: Path, share: float, out: Path) -> None:
    """Writes a checkpoint whose weights lie between two others.

    Args:
        first: A checkpoint folder.
        second: Another of the same tokenizer and shape.
        share: How much of it is the second, from 0 to 1.
        out: The folder to write; its other files are the second's.
    """
    before, after = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    shapes = [{name: tuple(t.shape) for name, t in held.items()} for held in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{first} and {second} hold weights of different names or shapes")
    mean = {
        name: ((1 - share) * before[name].float() + share * own.float()).to(own.dtype).contiguous()
        for name, own in after.items()
    }
    shutil.copytree(second, out, dirs_exist_ok=True)
    save_file(mean, out / WEIGHTS, metadata={"format": "pt"})
    (out / WEIGHTS).chmod(0o644)


def main() -> None:
    """Reads the command line and writes the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path, help="an exported checkpoint")
    parser.add_argument("second", type=Path, help="another one")
    parser.add_argument("--share", type=float, default=0.5, help="of the second")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    average(args.first, args.second, args.share, args.out)


if __name__ == "__main__":
    main()
