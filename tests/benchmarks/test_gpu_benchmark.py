"""The GPU benchmark itself, run in small on CPU: every cell is measured and written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.gpu import main


def test_the_benchmark_measures_every_cell_in_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--tiny", "--part", "34b-bf16", "--results", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu-34b-bf16-cpu-tiny.json").read_text("utf-8"))
    assert found["limits"]["copy_gb_per_s"] > 0
    cells = found["cells"]
    assert {"decode 1 x short", "decode 1 x long", "decode batch x short", "prefill long, s",
            "first token warm / cold", "document read each", "document read once",
            "longest gap beside a prompt, ms"} <= set(cells)  # fmt: skip
    for name in ("decode 1 x short", "document read once"):
        assert cells[name]["tokens_per_s"] > 0
    # On CPU nothing is judged.
    assert {cell["met"] for cell in cells.values()} == {None}
    assert "NOT MET" not in capsys.readouterr().out


def test_the_agreement_part_finds_transformers_logits(tmp_path: Path) -> None:
    assert main(["--tiny", "--part", "agreement", "--results", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu-agreement-cpu-tiny.json").read_text("utf-8"))
    agreement = found["agreement"]
    assert agreement["tiny auto"]["ours_to_fp32"] < 1e-5
    assert agreement["tiny auto"]["same_likeliest"] == 1.0
    assert agreement["tiny int8"]["ours_to_fp32"] < 0.02
