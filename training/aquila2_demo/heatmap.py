"""Owns the drawing of what is found by length and depth, as plain SVG."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CELL, ROW, LEFT, TOP, GAP = 66, 30, 86, 46, 40
NEEDLE = re.compile(r"needle, (\d+) tokens, depth ([\d.]+)")
LANGUAGES = {"en": "English", "zh": "Chinese"}
# From wrong to right; dark enough for white numbers at both ends, for black ones between.
LOW, HIGH = (178, 42, 42), (24, 110, 60)
Grid = dict[int, dict[float, float]]


def read(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Reads what `evaluate --json` printed; other lines are passed over."""
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


def grids(scores: Sequence[dict[str, Any]]) -> dict[str, Grid]:
    """Sorts the shares that are right by language, length and depth."""
    found: dict[str, Grid] = {}
    for score in scores:
        match = NEEDLE.fullmatch(score["name"])
        if match is not None:
            row = found.setdefault(score["lang"], {}).setdefault(int(match[1]), {})
            row[float(match[2])] = score["right"]
    return found


def _color(share: float) -> str:
    """Red over a pale yellow to green."""
    middle, side = (250, 240, 190), LOW if share < 0.5 else HIGH
    away = abs(share - 0.5) * 2
    mixed = (round(m + (s - m) * away) for m, s in zip(middle, side, strict=True))
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _panel(name: str, grid: Grid, top: int) -> str:
    depths = sorted({depth for row in grid.values() for depth in row})
    parts = [f'<text x="{LEFT}" y="{top - 22}" class="title">{name}</text>']
    for column, depth in enumerate(depths):
        x = LEFT + CELL * column + CELL // 2
        parts.append(f'<text x="{x}" y="{top - 6}" class="middle">{depth:.0%}</text>')
    for line, (length, row) in enumerate(sorted(grid.items())):
        y = top + ROW * line
        parts.append(f'<text x="{LEFT - 8}" y="{y + 20}" class="tick">{length:,}</text>')
        for column, depth in enumerate(depths):
            share = row.get(depth)
            if share is None:
                continue
            x = LEFT + CELL * column
            ink = "#fff" if abs(share - 0.5) > 0.3 else "#222"
            parts.append(
                f'<rect x="{x}" y="{y}" width="{CELL - 2}" height="{ROW - 2}" '
                f'fill="{_color(share)}"/><text x="{x + CELL // 2 - 1}" y="{y + 19}" '
                f'class="middle" style="fill:{ink}">{share:.2f}</text>'
            )
    return "\n".join(parts)


def draw(found: dict[str, Grid]) -> str:
    """Draws a grid per language: tokens of the text downwards, place of the fact across."""
    if not found:
        raise ValueError("there is no measurement of a fact by length and depth")
    parts, top, columns = [], TOP, 1
    for lang, grid in sorted(found.items()):
        parts.append(_panel(f"{LANGUAGES.get(lang, lang)}: found, by tokens and depth", grid, top))
        columns = max(columns, *(len(row) for row in grid.values()))
        top += ROW * len(grid) + GAP + 14
    width, height = LEFT + CELL * columns + 16, top - GAP + 12
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">\n'
        "<style>text{font:12px sans-serif;fill:#333}.title{font-weight:bold}"
        ".tick{text-anchor:end}.middle{text-anchor:middle}</style>\n"
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n{body}\n</svg>\n'
    )


def main() -> None:
    """Reads the command line and draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path, nargs="+", help="what evaluate --json printed")
    parser.add_argument("--out", type=Path, default=Path("aquila2_runtime/demo/needles.svg"))
    args = parser.parse_args()
    args.out.write_text(draw(grids(read(args.scores))), encoding="utf-8")


if __name__ == "__main__":
    main()
