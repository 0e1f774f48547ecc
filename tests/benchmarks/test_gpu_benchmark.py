"""The GPU benchmark itself, run in small on CPU: every cell is measured and written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import gpu
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


def test_a_part_that_fails_leaves_the_others_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What does not fit is no failure; whatever else goes wrong is, and is told at the end."""

    def measured(part: str, *args: object, **more: object) -> dict[str, object]:
        if part == "7b-bf16":
            raise RuntimeError("nothing of the kind is known")
        if part == "34b-bf16":
            raise gpu.TooSmall("needs 70.0 GiB, 23.0 are free")
        return {"part": part}

    monkeypatch.setattr(gpu, "measure_part", measured)
    monkeypatch.setattr(gpu.gpu_agreement, "measure", lambda *args, **more: {})
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: object())
    assert main(["--tiny", "--results", str(tmp_path)]) == 1
    kept = {file.name.removesuffix("-cpu-tiny.json") for file in tmp_path.iterdir()}
    assert kept == {"gpu-agreement", "gpu-7b-nf4", "gpu-34b-nf4"}
    told = capsys.readouterr()
    assert "7b-bf16: FAILED" in told.out
    assert "nothing of the kind" in told.err
    assert "34b-bf16: not run, needs 70.0 GiB" in told.out


def test_once_the_card_is_lost_the_other_parts_run_in_a_fresh_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*args: object, **more: object) -> dict[str, object]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    class Replaced(BaseException):
        """What execv does not come back from."""

    def replace(program: str, command: list[str]) -> None:
        raise Replaced(*command)

    monkeypatch.setattr(gpu, "measure_part", lost)
    monkeypatch.setattr(gpu.gpu_agreement, "measure", lambda *args, **more: {})
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(gpu.os, "execv", replace)
    with pytest.raises(Replaced) as caught:
        main(["--tiny", "--results", str(tmp_path)])
    command = list(caught.value.args[3:])
    assert command.count("--part") == 3 and command[-1] == "34b-nf4"
    # What the fresh process does: the last part fails like the others, and that is told.
    with pytest.raises(Replaced):
        main(command)
    assert main([*command[:-6], "--part", "34b-nf4"]) == 1


def test_the_agreement_part_finds_transformers_logits(tmp_path: Path) -> None:
    assert main(["--tiny", "--part", "agreement", "--results", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu-agreement-cpu-tiny.json").read_text("utf-8"))
    agreement = found["agreement"]
    assert agreement["tiny auto"]["ours_to_fp32"] < 1e-5
    assert agreement["tiny auto"]["same_likeliest"] == 1.0
    assert agreement["tiny int8"]["ours_to_fp32"] < 0.02
