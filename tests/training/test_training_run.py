"""Tests of the training run: stages, going on after a stop, and starting from a checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from training.aquila2_demo.export import TOKENIZER_FILES, export
from training.aquila2_demo.model import Network, Shape
from training.aquila2_demo.plan import LAST_STAGE, STAGES, Plan
from training.aquila2_demo.rows import batches, encode, rows
from training.aquila2_demo.talk import Conversation
from training.aquila2_demo.train import load_start, train

DEMO = Path(__file__).parents[2] / "aquila2_runtime" / "demo"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder with the shipped tokenizer."""
    for name in TOKENIZER_FILES:
        shutil.copyfile(DEMO / name, tmp_path / name)
    return tmp_path


def test_rows_grow_longer_and_the_rate_ends_near_zero() -> None:
    plan = Plan(Path(), 100.0, 1, 1000, 0, None)
    lengths = [plan.stage(i / 100)[0] for i in range(101)]
    assert lengths == sorted(lengths)
    assert set(lengths) == {n for _, n, _ in STAGES} | {LAST_STAGE[0]}
    rates = [plan.rate(i / 100, 1000) for i in range(101)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1.0
    assert rates[-1] <= 0.01
    assert plan.rate(0.0, 0) < 0.1


def test_a_run_from_a_checkpoint_skips_the_early_stage() -> None:
    assert Plan(Path(), 100.0, 1, 1000, 0, None).stage(0.0) == (128, True)
    onward = Plan(Path(), 100.0, 1, 1000, 0, DEMO)
    lengths = [{onward.stage(done, step)[0] for step in range(200)} for done in (0.0, 0.3, 0.9)]
    assert lengths == [{256, 512}, {256, 512, 1024, 2048}, {256, 512, 1024, 2048, 4096}]
    assert not any(onward.stage(0.0, step)[1] for step in range(10))
    # Processes that train together draw the same length for a step.
    assert onward.stage(0.9, 7) == Plan(Path(), 100.0, 1, 1000, 0, DEMO).stage(0.9, 7)


def test_a_budget_of_tokens_ends_a_run_as_time_does() -> None:
    plan = Plan(Path(), 100.0, 1, 1000, 5000, None)
    assert plan.done(50.0, 0) == 0.5
    assert plan.done(1.0, 4000) == 0.8


def test_rows_mark_answers_and_keep_whole_turns_only() -> None:
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    talk = Conversation("", (("Where is it?", "Rome"), ("And when?", "in 1990")))
    row = encode(tokenizer, talk, 500)
    assert row is not None
    ids, marks = row
    spoken = tokenizer.decode([i for i, m in zip(ids, marks, strict=True) if m == 2])
    assert spoken == "Romein 1990"
    short = encode(tokenizer, talk, len(ids) - 1)
    assert short is not None
    assert tokenizer.decode(short[0]).endswith("Rome")
    assert encode(tokenizer, talk, 4) is None


def test_batches_hold_every_row_within_their_room() -> None:
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    made = rows(tokenizer, 5, 256, False, 6000)
    cut = batches(made, 2048)
    assert sum(int((marks > 0).sum()) for _, marks in cut) == sum(len(ids) for ids, _ in made)
    assert all(ids.numel() <= 2048 + 16 * ids.size(0) or ids.size(0) == 1 for ids, _ in cut)


def test_an_exported_checkpoint_can_be_loaded_again() -> None:
    net = Network(Shape())
    load_start(net, DEMO)
    stored = load_file(DEMO / "model.safetensors")
    assert torch.equal(net.embed_tokens.weight, stored["lm_head.weight"].float())


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped_and_exports(folder: Path) -> None:
    first = Plan(folder, 1e9, 1, 600, 900, None)
    train(first)
    before = torch.load(folder / "state.pt", weights_only=True)
    train(Plan(folder, 1e9, 1, 600, 2400, None))
    after = torch.load(folder / "state.pt", weights_only=True)
    assert after["step"] > before["step"] >= 1
    assert after["tokens"] > before["tokens"] >= 900
    curve = (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in curve] == [before["step"], after["step"]]
    export(folder, folder / "out")
    net = Network(Shape())
    load_start(net, folder / "out")
    expected = after["net"]["norm.weight"].to(torch.bfloat16).float()
    assert torch.equal(net.norm.weight, expected)


@pytest.mark.slow
def test_the_same_seed_and_steps_give_the_same_weights(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("other"))
    for where in (folder, other):
        train(Plan(where, 1e9, 3, 600, 900, None))
    once, again = (torch.load(w / "state.pt", weights_only=True)["net"] for w in (folder, other))
    assert all(torch.equal(once[name], again[name]) for name in once)
