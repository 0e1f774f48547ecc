"""Owns the drawing of a run's curve: loss and whole answers over tokens, as plain SVG."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 250, 56, 34, 46
COLORS = ("#1f6fb4", "#c2532d", "#3b8a4b", "#7a4fa3", "#b08a1e")
LOSS_TICKS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
Point = tuple[float, float]


def read(path: Path) -> list[dict[str, Any]]:
    """Reads the points of a curve, without those of steps that an interrupted run made again."""
    kept: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        point = json.loads(line)
        kept = [p for p in kept if p["tokens"] < point["tokens"]] + [point]
    return kept


class Panel:
    """One pair of axes: tokens across, something up."""

    def __init__(self, top: float, title: str, most: float, low: float, high: float) -> None:
        """Draws the frame; `most` is the largest number of tokens."""
        self.top, self.most, self.low, self.high = top, most, low, high
        self.parts = [
            f'<text x="{LEFT}" y="{top - 12:.0f}" class="title">{title}</text>',
            f'<rect x="{LEFT}" y="{top:.0f}" width="{WIDTH - LEFT - 150}" height="{HEIGHT}" '
            'class="frame"/>',
        ]

    def place(self, x: float, y: float) -> Point:
        """Turns values into a place on the page."""
        share = (y - self.low) / (self.high - self.low)
        across = LEFT + (WIDTH - LEFT - 150) * x / self.most
        return across, self.top + HEIGHT * (1 - min(1.0, max(0.0, share)))

    def level(self, y: float, label: str) -> None:
        """Draws a horizontal line with its number."""
        x, at = self.place(0, y)
        self.parts.append(
            f'<line x1="{x:.0f}" y1="{at:.1f}" x2="{WIDTH - 150}" y2="{at:.1f}" class="grid"/>'
            f'<text x="{x - 8:.0f}" y="{at + 4:.1f}" class="tick">{label}</text>'
        )

    def line(self, points: list[Point], color: str, dashed: bool, name: str, place: int) -> None:
        """Draws a line and its entry in the legend."""
        path = " ".join("{:.1f},{:.1f}".format(*self.place(x, y)) for x, y in points)
        dash = ' stroke-dasharray="5 3"' if dashed else ""
        y, x = self.top + 14 + 19 * place, WIDTH - 138
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8"{dash}/>'
            f'<line x1="{x}" y1="{y:.0f}" x2="{x + 26}" y2="{y:.0f}" stroke="{color}" '
            f'stroke-width="1.8"{dash}/><text x="{x + 32}" y="{y + 4:.0f}">{name}</text>'
        )


def draw(points: list[dict[str, Any]]) -> str:
    """Draws the loss above and the shares of whole answers below."""
    most = max(p["tokens"] for p in points) / 1e6
    losses = Panel(TOP, "loss on answers (logarithmic)", most, math.log(0.05), math.log(6.0))
    for tick in LOSS_TICKS:
        losses.level(math.log(tick), f"{tick:g}")
    across = [p["tokens"] / 1e6 for p in points]
    logs = [math.log(max(0.01, p["loss"])) for p in points]
    losses.line(list(zip(across, logs, strict=True)), COLORS[0], False, "loss", 0)
    shares = Panel(TOP + HEIGHT + GAP, "answers right as a whole, names held out", most, 0.0, 1.0)
    for tenth in range(0, 11, 2):
        shares.level(tenth / 10, f"{tenth / 10:.1f}")
    for i, name in enumerate(points[-1]["exact"]):
        line = [(x, p["exact"][name]) for x, p in zip(across, points, strict=True)]
        shares.line(line, COLORS[i // 2 % len(COLORS)], i % 2 == 1, name, i)
    foot = TOP + 2 * HEIGHT + GAP + 22
    marks = "".join(
        f'<text x="{shares.place(n, 0)[0]:.0f}" y="{foot - 4}" class="middle">{n}</text>'
        for n in range(0, int(most) + 1, max(1, int(most) // 8))
    )
    body = "\n".join([*losses.parts, *shares.parts, marks])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {foot + 24}" '
        f'width="{WIDTH}" height="{foot + 24}">\n'
        "<style>text{font:12px sans-serif;fill:#333}.title{font-weight:bold}"
        ".tick{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#ddd}"
        ".frame{fill:#fff;stroke:#999}</style>\n"
        f'<rect width="{WIDTH}" height="{foot + 24}" fill="#fff"/>\n{body}\n'
        f'<text x="{LEFT}" y="{foot + 14}">million tokens</text>\n</svg>\n'
    )


def main() -> None:
    """Reads the command line and draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("build/aquila2-demo"))
    parser.add_argument("--out", type=Path, default=Path("aquila2_runtime/demo/curve.svg"))
    args = parser.parse_args()
    args.out.write_text(draw(read(args.run / "curve.jsonl")), encoding="utf-8")


if __name__ == "__main__":
    main()
