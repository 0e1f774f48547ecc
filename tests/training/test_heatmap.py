"""Tests of the drawing of what is found by length and depth."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from training.aquila2_demo.heatmap import draw, grids, read

SVG = "{http://www.w3.org/2000/svg}"


def _scores(folder: Path) -> Path:
    rows = [
        {"name": f"needle, {length} tokens, depth {depth}", "lang": lang, "right": depth}
        for lang in ("en", "zh")
        for length in (256, 1024)
        for depth in (0.0, 0.5, 1.0)
    ]
    rows.append({"name": "extraction, about 1K", "lang": "en", "right": 0.7})
    path = folder / "scores.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), "13 answers, 1.0 ended"]), encoding="utf-8")
    return path


def test_every_length_and_depth_has_a_cell_with_its_share(tmp_path: Path) -> None:
    found = grids(read([_scores(tmp_path)]))
    assert found["zh"] == {
        256: {0.0: 0.0, 0.5: 0.5, 1.0: 1.0},
        1024: {0.0: 0.0, 0.5: 0.5, 1.0: 1.0},
    }
    root = ET.fromstring(draw(found))
    cells = root.findall(f"{SVG}rect")[1:]
    assert len(cells) == 12
    assert len({(cell.attrib["x"], cell.attrib["y"]) for cell in cells}) == 12
    assert len({cell.attrib["fill"] for cell in cells}) == 3
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert [texts.count(share) for share in ("0.00", "0.50", "1.00")] == [4, 4, 4]
    assert "1,024" in texts


def test_all_of_it_is_inside_the_page(tmp_path: Path) -> None:
    root = ET.fromstring(draw(grids(read([_scores(tmp_path)]))))
    page, *cells = root.findall(f"{SVG}rect")
    for cell in cells:
        right = float(cell.attrib["x"]) + float(cell.attrib["width"])
        low = float(cell.attrib["y"]) + float(cell.attrib["height"])
        assert right <= float(page.attrib["width"])
        assert low <= float(page.attrib["height"])


def test_without_a_measurement_there_is_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no measurement"):
        draw({})
