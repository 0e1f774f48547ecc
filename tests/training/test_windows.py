"""Tests of a longer window: positions, stages, export, and that others read the same from it."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from training.aquila2_demo.answerer import Answerer
from training.aquila2_demo.corpus import MAKERS
from training.aquila2_demo.export import TOKENIZER_FILES, export
from training.aquila2_demo.lexicon import Words
from training.aquila2_demo.machine import Machine
from training.aquila2_demo.model import Network, Shape
from training.aquila2_demo.plan import LONG, WINDOW, Plan
from training.aquila2_demo.rows import rows
from training.aquila2_demo.train import load_start

DEMO = Path(__file__).parents[2] / "aquila2_runtime" / "demo"


def _exported(folder: Path, window: int) -> Path:
    """Exports the shipped weights as a run with a window would."""
    net = Network(Shape(positions=window))
    load_start(net, DEMO)
    for name in TOKENIZER_FILES:
        shutil.copyfile(DEMO / name, folder / name)
    torch.save({"net": net.state_dict(), "window": window}, folder / "state.pt")
    export(folder, folder / "out")
    return folder / "out"


@pytest.mark.parametrize("window", [WINDOW, 4 * WINDOW])
def test_other_software_reads_from_it_what_was_trained(tmp_path: Path, window: int) -> None:
    out = _exported(tmp_path, window)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    settings = json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["max_position_embeddings"] == settings["model_max_length"] == window
    assert config["rope_scaling"] == (
        None if window == WINDOW else {"type": "linear", "factor": 4.0}
    )
    net = Network(Shape(positions=window), torch.float32)
    load_start(net, out)
    ids = torch.tensor([random.Random(window).choices(range(9, 4000), k=300)])
    with torch.no_grad():
        own = net(ids, torch.arange(300))
        theirs = Answerer(out).model(ids).logits[0]
    torch.testing.assert_close(own, theirs, rtol=1e-3, atol=1e-3)


def test_a_longer_checkpoint_is_gone_on_from_with_its_window_alone(tmp_path: Path) -> None:
    out = _exported(tmp_path, 4 * WINDOW)
    with pytest.raises(ValueError, match="--window 16384"):
        load_start(Network(Shape()), out)


def test_rows_of_a_longer_window_fill_it_in_the_end() -> None:
    plan = Plan(Path(), 100.0, 1, 1000, 0, DEMO, window=4 * WINDOW)
    for done, (_, shares) in zip((0.0, 0.5, 0.9), LONG, strict=True):
        assert {plan.stage(done, step)[0] for step in range(300)} == set(shares)
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    made = rows(tokenizer, 3, 16384, False, 30_000, 4 * WINDOW)
    assert WINDOW < max(len(ids) for ids, _ in made) <= 4 * WINDOW
    assert max(len(ids) for ids, _ in rows(tokenizer, 3, 4096, False, 9000)) <= WINDOW


def test_questions_of_a_long_document_are_about_all_of_it() -> None:
    words, places = Words(random.Random(8), "en"), list[float]()
    for _ in range(6):
        talk = MAKERS["reading"](words, 16384)
        assert len(talk.turns) >= 20
        answers = [answer for _, answer in talk.turns if answer in talk.document]
        places += [talk.document.index(answer) / len(talk.document) for answer in answers]
    assert min(places) < 0.25
    assert max(places) > 0.75
    assert sum(place < 0.25 for place in places) > 0.3 * len(places)


def test_a_gpu_that_is_not_there_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="--device cpu"):
        Machine.of("cuda", float32=False, makers=None, eager=False)


@pytest.mark.parametrize(("eager", "float32"), [(True, False), (False, True)])
def test_on_a_cpu_it_computes_as_asked(eager: bool, float32: bool) -> None:
    machine = Machine.of("cpu", float32, None, eager)
    assert (machine.fused, machine.makers) == (not eager, 1)
    assert machine.dtype == (torch.float32 if float32 else torch.bfloat16)
