"""Tests of the drawing of a training curve."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from training.aquila2_demo.curve import draw, read


def points(folder: Path) -> list[dict[str, object]]:
    lines = [
        {"tokens": n * 500_000, "loss": 4.0 / n, "exact": {"reading en": n / 10, "tools zh": 0.1}}
        for n in range(1, 9)
    ]
    path = folder / "curve.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return read(path)


def test_a_curve_is_an_image_with_a_line_for_each_series(tmp_path: Path) -> None:
    svg = draw(points(tmp_path))
    root = ET.fromstring(svg)
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 3
    assert all(len(line.attrib["points"].split()) == 8 for line in lines)
    assert "reading en" in svg
    assert "tools zh" in svg


def test_a_share_that_grows_is_drawn_upwards_and_inside_the_page(tmp_path: Path) -> None:
    root = ET.fromstring(draw(points(tmp_path)))
    height = float(root.attrib["height"])
    _, reading, _ = root.findall("{http://www.w3.org/2000/svg}polyline")
    places = [float(y) for y in re.findall(r",([\d.]+)", reading.attrib["points"])]
    assert places == sorted(places, reverse=True)
    assert all(0 < y < height for y in places)


def test_steps_made_again_are_drawn_once(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    lines = [{"tokens": n, "loss": loss} for n, loss in ((1, 4.0), (2, 3.0), (3, 2.5), (2, 2.9))]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert [point["loss"] for point in read(path)] == [4.0, 2.9]
