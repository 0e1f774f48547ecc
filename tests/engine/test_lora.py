"""Adapters of one batch, beside the base weights: what is added, and to whom."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from aquila2_runtime.checkpoint.adapter_config import projection_shapes
from aquila2_runtime.checkpoint.config import ModelConfig, parse_config
from aquila2_runtime.engine.heap import give_freed_memory_back
from aquila2_runtime.engine.lora import SITES, LoraBank
from aquila2_runtime.errors import WeightsError
from tests.fixtures_checkpoint import make_config

CPU = torch.device("cpu")
CONFIG: ModelConfig = parse_config(make_config(num_key_value_heads=2))
SHAPES = projection_shapes(CONFIG)

Pairs = dict[tuple[int, str], tuple[torch.Tensor, torch.Tensor]]


def pairs(seed: int, rank: int, targets: list[str], layers: tuple[int, ...] = (0, 1)) -> Pairs:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for layer in layers:
        for target in targets:
            out, into = SHAPES[target]
            down = torch.randn(rank, into, generator=generator)
            made[layer, target] = (down, torch.randn(out, rank, generator=generator))
    return made


def expected(
    site: str, layer: int, adapter: Pairs | None, scaling: float, states: torch.Tensor
) -> torch.Tensor:
    parts = []
    for part in SITES[site]:
        update = torch.zeros(states.shape[0], SHAPES[part][0])
        if adapter is not None and (layer, part) in adapter:
            down, up = adapter[layer, part]
            update = scaling * (states @ down.t() @ up.t())
        parts.append(update)
    return torch.cat(parts, dim=-1)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("layer", [0, 1])
def test_each_row_gets_its_own_adapters_update_and_no_other(site: str, layer: int) -> None:
    adapters: dict[str | None, tuple[Pairs | None, float]] = {
        "a": (pairs(1, 4, ["q_proj", "v_proj", "down_proj"]), 2.0),
        "b": (pairs(2, 16, list(SHAPES)), 0.5),
        "c": (pairs(3, 1, ["k_proj", "up_proj", "o_proj"], layers=(1,)), 1.0),
        None: (None, 0.0),
    }
    bank = LoraBank(CONFIG, torch.float32, CPU)
    for key, (own, scaling) in adapters.items():
        if key is not None and own is not None:
            bank.add(key, own, scaling)
    rows = [("b", 3), (None, 2), ("a", 1), ("c", 4), ("a", 2)]
    step = bank.step(rows)
    assert step is not None
    count = sum(number for _, number in rows)
    generator = torch.Generator().manual_seed(7)
    states = torch.randn(count, SHAPES[SITES[site][0]][1], generator=generator)
    width = sum(SHAPES[part][0] for part in SITES[site])
    projected = torch.randn(count, width, generator=generator)
    got = step.add(layer, site, states, projected.clone())
    at = 0
    for key, number in rows:
        own, scaling = adapters[key]
        piece = slice(at, at + number)
        wanted = projected[piece] + expected(site, layer, own, scaling, states[piece])
        torch.testing.assert_close(got[piece], wanted, rtol=1e-5, atol=1e-4)
        if key is None:
            assert torch.equal(got[piece], projected[piece])
        at += number


def test_a_step_without_adapters_costs_nothing() -> None:
    bank = LoraBank(CONFIG, torch.float32, CPU)
    assert bank.step([(None, 5)]) is None
    bank.add("a", pairs(1, 4, ["q_proj"]), 1.0)
    assert bank.step([(None, 5), (None, 1)]) is None


def test_what_is_infinite_in_one_adapter_reaches_no_other_row() -> None:
    """One request's numbers never spoil another's."""
    bank = LoraBank(CONFIG, torch.float16, CPU)
    large = pairs(1, 4, ["q_proj"])
    bank.add("large", {place: (down * 3e4, up) for place, (down, up) in large.items()}, 1.0)
    bank.add("small", pairs(2, 4, ["q_proj"]), 1.0)
    step = bank.step([("large", 1), ("small", 1), (None, 1)])
    assert step is not None
    states = torch.full((3, 32), 8.0, dtype=torch.float16)
    projected = torch.zeros(3, 64, dtype=torch.float16)
    got = step.add(0, "qkv", states, projected)
    assert not got[0].isfinite().all()
    assert got[1:].isfinite().all()
    assert torch.equal(got[2], projected[2])


@pytest.mark.parametrize("rank", [1, 8])
def test_a_row_is_the_same_alone_and_among_others(rank: int) -> None:
    bank = LoraBank(CONFIG, torch.float32, CPU)
    bank.add("a", pairs(1, rank, ["q_proj"]), 1.0)
    bank.add("b", pairs(2, rank, ["q_proj"]), 1.0)
    generator = torch.Generator().manual_seed(7)
    states = torch.randn(24, 32, generator=generator)
    projected = torch.randn(24, 64, generator=generator)
    keys = ["a", "b", None] * 8
    together = bank.step([(key, 1) for key in keys])
    assert together is not None
    wanted = together.add(0, "qkv", states, projected)
    for rows in (1, 2, 3, 5, 10, 13):
        step = bank.step([(key, 1) for key in keys[:rows]])
        assert step is not None
        assert torch.equal(step.add(0, "qkv", states[:rows], projected[:rows]), wanted[:rows])


def test_an_update_that_the_type_cannot_hold_is_refused() -> None:
    """It would reach the rows of others: 0 * infinity is NaN."""
    bank = LoraBank(CONFIG, torch.float16, CPU)
    large = {place: (down, up * 1e5) for place, (down, up) in pairs(1, 4, ["q_proj"]).items()}
    with pytest.raises(WeightsError, match="q_proj is more than float16 can hold"):
        bank.add("large", large, 1.0)
    assert "large" not in bank


def test_an_adapter_is_added_once_and_beside_those_in_use() -> None:
    bank = LoraBank(CONFIG, torch.float32, CPU)
    bank.add("a", pairs(1, 4, ["q_proj"]), 1.0)
    held = bank.num_bytes
    bank.add("a", pairs(5, 8, ["v_proj"]), 3.0)
    assert bank.num_bytes == held
    earlier = bank.step([("a", 2)])
    bank.add("b", pairs(2, 8, list(SHAPES)), 1.0)
    assert "b" in bank
    later = bank.step([("a", 2)])
    assert earlier is not None
    assert later is not None
    states, projected = torch.randn(2, 32), torch.zeros(2, 64)
    before = earlier.add(0, "qkv", states, projected)
    torch.testing.assert_close(before, later.add(0, "qkv", states, projected))


STATUS = Path("/proc/self/status")


def own_memory() -> int:
    gc.collect()
    give_freed_memory_back()
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not STATUS.exists(), reason="this system does not tell")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_adapters_hold_is_what_they_say(dtype: torch.dtype) -> None:
    """One copy, in the layout it is multiplied in, whose padding counts."""
    config = parse_config(
        make_config(hidden_size=2048, intermediate_size=5504, num_attention_heads=16)
    )
    shapes = projection_shapes(config)

    def filled() -> LoraBank:
        bank = LoraBank(config, dtype, CPU)
        for key, rank in (("a", 8), ("b", 64), ("c", 90)):
            made = {
                (layer, name): (torch.randn(rank, into), torch.randn(out, rank))
                for layer in range(config.num_layers)
                for name, (out, into) in shapes.items()
            }
            bank.add(key, made, 1.0)
        return bank

    filled()  # what is compiled for products of these sizes stays, and is no adapter's
    before = own_memory()
    bank = filled()
    held = own_memory() - before
    numbers = sum((8 + 64 + 90) * (out + into) for out, into in shapes.values())
    assert bank.num_bytes > config.num_layers * numbers * dtype.itemsize
    assert held == pytest.approx(bank.num_bytes, rel=0.15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_added_later_leaves_those_in_use_as_they_were(dtype: torch.dtype) -> None:
    """Their matrices are taken out of the layout they are multiplied in, and put back."""
    bank, alone = LoraBank(CONFIG, dtype, CPU), LoraBank(CONFIG, dtype, CPU)
    first = pairs(1, 4, ["q_proj", "down_proj"])
    bank.add("a", first, 2.0)
    alone.add("a", first, 2.0)
    bank.add("b", pairs(2, 7, list(SHAPES)), 1.0)
    for at, site in alone._sites.items():
        grown = bank._sites[at]
        rank = len(site.owners)
        assert torch.equal(grown.shrink.plain()[:rank], site.shrink.plain())
        assert torch.equal(grown.grow.plain()[:, :rank], site.grow.plain())


def test_the_fused_sites_cover_every_projection_once() -> None:
    parts = [part for site in SITES.values() for part in site]
    assert sorted(parts) == sorted(SHAPES)
