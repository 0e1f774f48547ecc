"""ScriptedStep: the bits of the same step run from Python, and only what it is meant for."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.engine import scripted_step
from aquila2_runtime.engine.attention import gathering
from aquila2_runtime.engine.attention.base import Attention
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.cpu import RunAttention
from aquila2_runtime.engine.attention.gathered import GatheredAttention
from aquila2_runtime.engine.attention.plan import AttentionPlan, PrefillSegment
from aquila2_runtime.engine.decoder import Decoder
from aquila2_runtime.engine.linear import packing_of
from tests.engine.caches import filled_cache
from tests.engine.engines import make_model
from tests.fixtures_checkpoint import VOCAB_SIZE, make_checkpoint

SIZE, BLOCKS = 16, 260
CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(
    gathering.obstacle() is not None or packing_of(torch.float32) is not None,
    reason="this torch cannot run such steps on CPU",
)


def _decoder(directory: Path, dtype: torch.dtype = torch.float32, **sizes: int) -> Decoder:
    path = make_checkpoint(directory, **sizes)
    config = read_config(path)
    return Decoder(load_weights(path, config, dtype=dtype, device=CPU), config, 640)


def _cache(decoder: Decoder, *, columns: bool = False) -> PagedKVCache:
    config = decoder.config
    return filled_cache(
        kv_heads=config.num_kv_heads,
        dim=config.head_dim,
        layers=config.num_layers,
        blocks=BLOCKS,
        size=SIZE,
        columns=columns,
    )


def _plan(lengths: list[int], prefills: tuple[PrefillSegment, ...] = ()) -> AttentionPlan:
    """Decoding rows that see so many tokens, in blocks of their own; and prompts of one row."""
    width = max(-(-length // SIZE) for length in lengths)
    tables, slots, free = [], [], iter(range(1, BLOCKS + 1))
    for length in lengths:
        table = [next(free) for _ in range(-(-length // SIZE))]
        slots.append(table[-1] * SIZE + (length - 1) % SIZE)
        tables.append(table + [0] * (width - len(table)))
    slots += [int(part.blocks[0]) * SIZE for part in prefills]
    return AttentionPlan(
        torch.tensor(slots),
        len(lengths),
        torch.tensor(tables),
        None,
        prefills,
        torch.tensor(lengths, dtype=torch.int32),
    )


def _forward(
    decoder: Decoder, attention: Attention, plan: AttentionPlan, step: int = 0
) -> torch.Tensor:
    rows = len(plan.slots)
    ids = (torch.arange(rows) * 7 + step) % VOCAB_SIZE
    return decoder.forward(ids, torch.arange(rows) * 3 + step, attention, plan)


class _Count:
    """Counts the steps that the script ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = 0
        run = scripted_step.ScriptedStep.run

        def counted(*args: object) -> torch.Tensor | None:
            found = run(*args)  # type: ignore[arg-type]
            self.done += found is not None
            return found

        monkeypatch.setattr(scripted_step.ScriptedStep, "run", counted)


@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [
        (torch.float32, {}),
        (torch.float32, {"num_key_value_heads": 2}),
        # One row is padded above 1,024 numbers.
        (torch.float32, {"intermediate_size": 1_536}),
        (torch.bfloat16, {"intermediate_size": 1_536}),
    ],
)
@pytest.mark.parametrize("columns", [False, True], ids=["fp32 cache", "columns"])
@pytest.mark.parametrize("lengths", [[70], [1, 64, 65, 130, 31, 30], [20 + i for i in range(45)]])
def test_its_numbers_are_those_of_a_step_run_from_python(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    dtype: torch.dtype,
    sizes: dict[str, int],
    lengths: list[int],
    columns: bool,
) -> None:
    if packing_of(dtype) is not None:
        pytest.skip(f"{packing_of(dtype)}")
    decoder, count = _decoder(tmp_path / "model", dtype, **sizes), _Count(monkeypatch)
    caches = [_cache(decoder, columns=columns) for _ in range(2)]
    scripted, plain = (RunAttention(cache) for cache in caches)
    for step in range(3):
        plan = _plan([length + step for length in lengths])
        found = _forward(decoder, scripted, plan, step)
        with monkeypatch.context() as patch:
            patch.setattr(decoder, "_script", None)
            right = _forward(decoder, plain, plan, step)
        assert torch.equal(found, right), (step, threads)
    assert count.done == 3
    for mine, other in zip(
        caches[0].lines + caches[0].columns, caches[1].lines + caches[1].columns, strict=True
    ):
        assert torch.equal(mine, other)


def test_steps_with_prompts_or_other_attention_are_left_to_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, count = _decoder(tmp_path / "model"), _Count(monkeypatch)
    prompt = PrefillSegment(1, 1, 1, torch.tensor([9]))
    _forward(decoder, RunAttention(_cache(decoder)), _plan([30], (prompt,)))
    plan = _plan([30])
    mask = torch.zeros(1, 32).masked_fill_(torch.arange(32) >= 30, float("-inf"))
    masked = AttentionPlan(plan.slots, 1, plan.decode_blocks, mask, ())
    _forward(decoder, GatheredAttention(_cache(decoder)), masked)
    assert count.done == 0


def test_fused_operations_are_not_replaced(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    assert make_model(tmp_path / "model", fused=True).decoder._script is None


def test_a_torch_that_cannot_read_it_is_named_and_runs_from_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scripted_step, "_SOURCE", "def layers(x: Tensor) -> Tensor:\n  return y\n")
    with caplog.at_level(logging.WARNING):
        decoder = _decoder(tmp_path / "model")
    assert "undefined value y" in caplog.text
    assert _forward(decoder, RunAttention(_cache(decoder)), _plan([30])).isfinite().all()
