"""Whether the released sizes fit on common cards, said from the configuration alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from aquila2_runtime import device_types, fits, placement
from aquila2_runtime.cache_size import cache_blocks
from aquila2_runtime.checkpoint.free_memory import available_memory
from aquila2_runtime.errors import InsufficientMemoryError
from aquila2_runtime.fits import gpus_that_fit, settle, ways_that_fit
from aquila2_runtime.load_options import LoadOptions
from tests.checkpoint.test_memory import SEVEN, SEVENTY, THIRTY_FOUR

GIB = 2**30
CUDA = torch.device("cuda", 0)
SIZES = {"7B": SEVEN, "34B": THIRTY_FOUR, "70B": SEVENTY}
# Weights in GiB, from the published parameter counts: 16 bits, and NF4 with the head, the
# embedding and the norms in 16.
WEIGHTS = {"7B": (13.59, 4.9), "34B": (62.76, 19.2), "70B": (130.55, 39.1)}
# The least card in GB that holds 4,096 tokens (2,048 with the 7B) in 16 bits, in NF4, in NF4 with
# 8-bit keys and values; None where 80 do not.
LEAST = {"7B": (24, 12, 12), "34B": (80, 24, 24), "70B": (None, 48, 48)}
CARDS = (12, 24, 48, 80)


def cards(monkeypatch: pytest.MonkeyPatch, *gigabytes: float) -> None:
    """Pretend that such cards are there, with a little taken by the driver."""
    free = [int(size * GIB * 0.97) for size in gigabytes]
    devices = tuple(torch.device("cuda", at) for at in range(len(free)))
    monkeypatch.setattr(device_types, "visible_gpus", lambda: devices)
    monkeypatch.setattr(fits, "free_memory", lambda chosen: free[: len(chosen)])
    monkeypatch.setattr(
        device_types, "choose_attention", lambda *args, **more: ("paged", "as on a GPU")
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


def context(config: Any) -> int:
    return 2048 if config is SEVEN else 4096


@pytest.mark.parametrize("form", range(3), ids=["bf16", "nf4", "nf4-kv8"])
@pytest.mark.parametrize("gigabytes", CARDS)
@pytest.mark.parametrize("size", SIZES)
def test_what_fits_on_which_card(
    monkeypatch: pytest.MonkeyPatch, size: str, gigabytes: int, form: int
) -> None:
    cards(monkeypatch, gigabytes)
    config = SIZES[size]
    options = LoadOptions(
        model=size,
        dtype="bfloat16",
        quantization="nf4" if form else None,
        kv_cache_dtype="int8" if form == 2 else None,
        max_num_seqs=8,
    )
    least = LEAST[size][form]
    chosen = placement.choose(options, config)
    if least is not None and gigabytes >= least:
        settled, needed = settle(options, config, chosen, context(config))
        assert settled.device == CUDA
        weights = needed.weights / GIB
        assert weights == pytest.approx(WEIGHTS[size][min(form, 1)], rel=0.03)
        kv = 2 * config.num_layers * config.num_kv_heads * context(config)
        item = 128 + 4 if form == 2 else 2 * 128
        assert needed.kv_cache == kv * item
        return
    with pytest.raises(InsufficientMemoryError) as caught:
        settle(options, config, chosen, context(config))
    assert "GiB are free" in caught.value.message
    assert "total" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(("size", "gigabytes"), [("7B", 12), ("34B", 24), ("34B", 48), ("70B", 48)])
def test_every_way_that_is_named_is_true_and_a_block_more_is_not(
    monkeypatch: pytest.MonkeyPatch, size: str, gigabytes: int
) -> None:
    cards(monkeypatch, gigabytes)
    config = SIZES[size]
    options = LoadOptions(model=size, dtype="bfloat16", max_num_seqs=8)
    with pytest.raises(InsufficientMemoryError) as caught:
        settle(options, config, placement.choose(options, config), config.max_position)
    hint = str(caught.value.hint)
    ways = list(ways_that_fit(options, config, fits.free_memory([CUDA])))
    assert ways
    for way in ways:
        assert str(way) in hint
        given = dict(part.split("=") for part in way.options.split(", ") if "=" in part)
        tried = dataclasses.replace(
            options, **{name: value.strip('"') for name, value in given.items()}
        )
        chosen = placement.choose(tried, config)
        settle(tried, config, chosen, way.max_model_len)
        if way.max_model_len < config.max_position:
            with pytest.raises(InsufficientMemoryError):
                settle(tried, config, chosen, way.max_model_len + 16)
    assert "GPUs of this size" in hint


@pytest.mark.parametrize("older", [(6, 1), (7, 5)])
def test_an_older_card_beside_it_takes_nothing_from_the_one_that_is_used(
    monkeypatch: pytest.MonkeyPatch, older: tuple[int, int]
) -> None:
    """Types and kernels were those that both cards had: float16, gathered, nothing captured."""
    cards(monkeypatch, 24, 8)

    def capability(device: torch.device) -> tuple[int, int]:
        return older if torch.device(device).index == 1 else (8, 9)

    def attention(asked: str, *, device: torch.device, **_: Any) -> tuple[str, str]:
        return ("paged" if capability(device) >= (8, 0) else "gathered"), "by the card"

    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
    monkeypatch.setattr(device_types, "choose_attention", attention)
    options = LoadOptions(model="34B", quantization="nf4", max_num_seqs=8)
    config = dataclasses.replace(THIRTY_FOUR, torch_dtype="bfloat16")
    both = placement.choose(options, config)
    assert (both.dtype, both.attention) == (torch.float16, "gathered")
    settled, needed = settle(options, config, both, 2048)
    alone = placement.choose(dataclasses.replace(options, device="cuda:0"), config)
    assert (settled.dtype, settled.attention) == (torch.bfloat16, "paged")
    assert settled.cuda_graphs and settled.device == CUDA
    assert needed == placement.estimate(options, config, alone, 2048)


@pytest.mark.parametrize(
    ("size", "gigabytes", "form"),
    [("7B", 17, None), ("7B", 8, "nf4"), ("34B", 24, "nf4"), ("34B", 80, None)],
)
def test_what_was_said_to_fit_is_not_refused_once_the_weights_are_there(
    monkeypatch: pytest.MonkeyPatch, size: str, gigabytes: int, form: str | None
) -> None:
    """The allocator's play was kept back from the cache, but not reckoned with before."""
    cards(monkeypatch, gigabytes)
    config = dataclasses.replace(SIZES[size], max_position=1_000_000)
    options = LoadOptions(model=size, dtype="bfloat16", quantization=form, max_num_seqs=8)
    chosen, free = placement.choose(options, config), fits.free_memory([CUDA])[0]
    longest = placement.estimate(options, config, chosen, 16).largest_context(free)
    assert longest
    for length in (longest, longest + 16):
        needed = placement.estimate(options, config, chosen, length)
        left = free - needed.weights
        if length == longest:
            settle(options, config, chosen, length)
            blocks, _ = cache_blocks(options, config, chosen, left, length, needed.reserve)
            assert blocks * placement.BLOCK_SIZE >= length
        else:
            with pytest.raises(InsufficientMemoryError):
                settle(options, config, chosen, length)
            with pytest.raises(InsufficientMemoryError):
                cache_blocks(options, config, chosen, left, length, needed.reserve)


def test_a_card_that_another_process_filled_has_nothing_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asking takes memory itself; "auto" then failed though the next card was empty."""

    def full(device: str) -> tuple[int, int]:
        if device == "cuda:0":
            raise RuntimeError("CUDA error: out of memory")
        if device == "cuda:1":
            raise RuntimeError("CUDA error: invalid device ordinal")
        return 5, 9

    monkeypatch.setattr(torch.cuda, "mem_get_info", full)
    assert available_memory("cuda:0") == 0
    assert available_memory("cuda:2") == 5
    with pytest.raises(RuntimeError, match="ordinal"):
        available_memory("cuda:1")


def test_where_no_single_card_will_do_packed_weights_on_several_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A 70B and one card of 24: seven of them, or two with NF4."""
    cards(monkeypatch, 24)
    options = LoadOptions(model="70B", dtype="bfloat16")
    with pytest.raises(InsufficientMemoryError) as caught:
        settle(options, SEVENTY, placement.choose(options, SEVENTY), 4096)
    hint = str(caught.value.hint)
    assert "7 GPUs of this size, with all that was asked for" in hint
    assert '2 GPUs of this size, with quantization="nf4"' in hint
    cards(monkeypatch, 24, 24)
    nf4 = dataclasses.replace(options, quantization="nf4")
    settled, _ = settle(nf4, SEVENTY, placement.choose(nf4, SEVENTY), 4096)
    assert len(settled.stages) == 2


def test_adapters_are_counted_wherever_what_fits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the table, in the ways that would fit, and in how many GPUs it takes."""
    cards(monkeypatch, 24)
    options = LoadOptions(model="7B", dtype="bfloat16", max_num_seqs=8)
    chosen, room = placement.choose(options, SEVEN), fits.free_memory([CUDA])[0]
    _, plain = settle(options, SEVEN, chosen, 2048)
    beside = room - plain.total
    _, full = settle(options, SEVEN, chosen, 2048, beside)
    assert (full.adapters, full.total) == (beside, room)
    with pytest.raises(InsufficientMemoryError) as caught:
        settle(options, SEVEN, chosen, 2048, beside + GIB)
    assert "adapters" in caught.value.message
    for way in ways_that_fit(options, SEVEN, [room], beside + GIB):
        assert str(way) in str(caught.value.hint)
    assert {
        way.options: way.max_model_len for way in ways_that_fit(options, SEVEN, [room], 20 * GIB)
    } == {}
    assert gpus_that_fit(options, SEVEN, room, 2048, beside + GIB) == 2
    assert gpus_that_fit(options, SEVEN, room, 2048, 4 * room) > 4


def test_more_gpus_are_named_by_how_many_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    cards(monkeypatch, 80)
    options = LoadOptions(model="70B", dtype="bfloat16")
    room = fits.free_memory([CUDA])[0]
    assert gpus_that_fit(options, SEVENTY, room, 4096) == 2
    assert gpus_that_fit(options, SEVENTY, room // 4, 4096) == 8
    assert gpus_that_fit(options, SEVENTY, GIB, 4096) is None
    with pytest.raises(InsufficientMemoryError, match="2 GPUs of this size"):
        settle(options, SEVENTY, placement.choose(options, SEVENTY), 4096)


def test_the_70b_takes_two_cards_of_80_and_only_what_it_needs_of_four(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = LoadOptions(model="70B", dtype="bfloat16")
    for gigabytes in ((80, 80), (24, 80, 80, 12)):
        cards(monkeypatch, *gigabytes)
        settled, needed = settle(options, SEVENTY, placement.choose(options, SEVENTY), 4096)
        big = [at for at, size in enumerate(gigabytes) if size == 80]
        assert [stage.device.index for stage in settled.stages] == big
        assert settled.stages[0].first == 0
        assert sum(stage.count for stage in settled.stages) == 80
        assert not settled.cuda_graphs
        assert needed.graphs == 0
    cards(monkeypatch, 48, 24, 24)
    nf4 = dataclasses.replace(options, quantization="nf4")
    settled, _ = settle(nf4, SEVENTY, placement.choose(nf4, SEVENTY), 2048)
    assert settled.cuda_graphs
    assert [stage.device.index for stage in settled.stages] == [0]
