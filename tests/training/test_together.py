"""Tests of training in several processes: gradients, sums, and a run of two that ends as one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from training.aquila2_demo.export import TOKENIZER_FILES
from training.aquila2_demo.together import Together

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "aquila2_runtime" / "demo"
SHARE = """
import sys
import torch
from torch import nn
from training.aquila2_demo.together import Together

team = Together()
both, one = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4))
both.grad = torch.full((2, 3), 1.0 + team.rank)
if team.rank == 1:
    one.grad = torch.full((4,), 6.0)
team.average([both, one])
kept = {"both": both.grad, "one": one.grad, "sums": torch.tensor(team.total(team.rank + 1.0, 5.0))}
torch.save(kept | {"writes": torch.tensor(team.writes)}, f"{sys.argv[1]}/{team.rank}.pt")
team.wait()
team.part()
"""


def _run_two(*command: str) -> None:
    """Starts two processes of a command, as torchrun does."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [*start, *command], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 0, ran.stderr[-4000:]


def test_two_processes_share_gradients_and_sums(tmp_path: Path) -> None:
    script = tmp_path / "share.py"
    script.write_text(SHARE, encoding="utf-8")
    _run_two(str(script), str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for found in (first, second):
        assert torch.equal(found["both"], torch.full((2, 3), 1.5))
        assert torch.equal(found["one"], torch.full((4,), 3.0))
        assert found["sums"].tolist() == [3.0, 10.0]
    assert (bool(first["writes"]), bool(second["writes"])) == (True, False)


def test_alone_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    team, weight = Together(), nn.Parameter(torch.zeros(2))
    team.average([weight])
    assert weight.grad is None
    assert team.writes
    assert team.total(2.0) == [2.0]


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    for name in TOKENIZER_FILES:
        shutil.copyfile(DEMO / name, tmp_path / name)
    short = ["--tokens", "600", "--budget", "700", "--seconds", "1e9", "--eager"]
    _run_two("-m", "training.aquila2_demo.train", "--out", str(tmp_path), *short)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    # The early stage has 360 tokens a step and process, and a few more: one alone would need two.
    assert (state["step"], state["tokens"] >= 700) == (1, True)
    assert len((tmp_path / "curve.jsonl").read_text(encoding="utf-8").splitlines()) == 1
