"""How many KV blocks a load gets: what fits is not refused, what is not there is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from aquila2_runtime import Aquila2Runtime, building, cache_size, placement
from aquila2_runtime.cache_size import cache_blocks, kv_bytes_per_token
from aquila2_runtime.checkpoint.config import ModelConfig, read_config
from aquila2_runtime.errors import InsufficientMemoryError
from aquila2_runtime.fits import settle, ways_that_fit
from aquila2_runtime.load_options import LoadOptions
from aquila2_runtime.placement import Placement
from tests.untrained import untrained_copy

MIB = 2**20
LENGTH = 4096


@pytest.fixture(scope="module")
def config(demo_path: Path) -> ModelConfig:
    return read_config(demo_path)


def place(config: ModelConfig, options: LoadOptions, device: str = "cpu") -> Placement:
    chosen = placement.choose(dataclasses.replace(options, device="cpu"), config)
    return dataclasses.replace(chosen, device=torch.device(device))


def options(**given: object) -> LoadOptions:
    return LoadOptions(model="aquila2-demo", device="cpu", **given)  # type: ignore[arg-type]


def test_a_load_that_fits_is_not_refused_for_want_of_512_mib(config: ModelConfig) -> None:
    asked = options()
    spot = place(config, asked)
    block = kv_bytes_per_token(config, spot) * placement.BLOCK_SIZE
    one = LENGTH // placement.BLOCK_SIZE * block
    for room in (one, 2 * one + 40 * MIB, 400 * MIB):
        blocks, _ = cache_blocks(asked, config, spot, room, LENGTH, reserve=30 * MIB)
        assert blocks * placement.BLOCK_SIZE >= LENGTH
        assert blocks * block <= max(one, room - 30 * MIB)
    plenty, _ = cache_blocks(asked, config, spot, 2**40, LENGTH)
    assert plenty * block <= 512 * MIB
    with pytest.raises(InsufficientMemoryError) as caught:
        cache_blocks(asked, config, spot, one - block, LENGTH)
    assert f"max_model_len={LENGTH - placement.BLOCK_SIZE} or less" in str(caught.value)


def test_a_cache_that_cannot_be_is_refused_before_a_weight_is_read(
    demo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was refused once all of the weights had been loaded."""
    own = untrained_copy(demo_path, tmp_path / "model")  # whose weights nobody has loaded
    monkeypatch.setattr(building, "load_weights", lambda *_, **__: pytest.fail("weights were read"))
    monkeypatch.setattr(cache_size, "available_memory", lambda device: 200 * MIB)
    with pytest.raises(InsufficientMemoryError, match="kv_cache_memory=256 MiB") as caught:
        Aquila2Runtime.load(own, template="aquila-v1", device="cpu", kv_cache_memory="256MiB")
    assert caught.value.parameter == "kv_cache_memory"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_cache_that_is_not_there_is_refused_before_it_is_made(
    config: ModelConfig, device: str
) -> None:
    asked = options(kv_cache_memory="1GiB", max_num_seqs=64)
    spot = place(config, asked, device)
    blocks, _ = cache_blocks(asked, config, spot, 1024 * MIB, LENGTH, reserve=600 * MIB)
    assert blocks > 1
    with pytest.raises(InsufficientMemoryError) as caught:
        cache_blocks(asked, config, spot, 1023 * MIB, LENGTH)
    assert caught.value.parameter == "kv_cache_memory"
    assert "1023 MiB are free" in str(caught.value)
    # More than all requests together can hold is not taken, so it need not be there.
    few = options(kv_cache_memory="1GiB", max_num_seqs=1)
    blocks, _ = cache_blocks(few, config, place(config, few, device), 900 * MIB, LENGTH)
    assert blocks * placement.BLOCK_SIZE == LENGTH


def test_what_cannot_be_with_what_was_asked_for_is_no_way_that_fits(config: ModelConfig) -> None:
    asked = options(dtype="float32", attention="runs")
    ways = list(ways_that_fit(asked, config, [200 * MIB]))
    assert ways
    assert not any("kv_cache_dtype" in way.options for way in ways)
    assert any("kv_cache_dtype" in w.options for w in ways_that_fit(options(), config, [200 * MIB]))


def test_a_load_too_large_for_its_options_shows_the_table(
    config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aquila2_runtime.fits.available_memory", lambda _: 10 * MIB)
    asked = options(dtype="float32", attention="runs")
    with pytest.raises(InsufficientMemoryError, match="workspace"):
        settle(asked, config, placement.choose(asked, config), LENGTH)
