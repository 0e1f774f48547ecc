"""Plots: horizontal bars as plain SVG. They know no engine."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

_WIDTH, _LABEL, _BAR, _STEP, _TOP = 640, 110, 420, 30, 40


def bars(title: str, values: Mapping[str, float]) -> str:
    """Draw one bar per value.

    Args:
        title: Stands above.
        values: Lengths by label.

    Returns:
        An SVG document.
    """
    most = max(values.values(), default=1.0) or 1.0
    height = _TOP + _STEP * len(values) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="22" font-weight="bold">{escape(title)}</text>',
    ]
    for row, (label, value) in enumerate(values.items()):
        y = _TOP + row * _STEP
        length = max(round(_BAR * value / most), 1)
        colour = "#2b6cb0" if label.startswith("ours") else "#a0aec0"
        parts += [
            f'<text x="{_LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{_LABEL}" y="{y}" width="{length}" height="20" fill="{colour}"/>',
            f'<text x="{_LABEL + length + 6}" y="{y + 15}">{value:,.4g}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
