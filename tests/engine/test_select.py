"""Which attention is chosen, and that the choice can be overridden or says why not."""

from __future__ import annotations

import contextlib
import sysconfig
from pathlib import Path

import pytest
import torch

from aquila2_runtime.engine.attention import select
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.select import choose_attention, make_attention
from aquila2_runtime.errors import InvalidLoadOptionError

HERE = {
    "device": torch.device("cpu"),
    "dtype": torch.float32,
    "kv_dtype": torch.float32,
    "head_dim": 64,
}


def test_without_cuda_the_choice_says_so() -> None:
    assert choose_attention("auto", **HERE)[0] == "runs"
    name, reason = choose_attention("auto", **(HERE | {"kv_dtype": torch.int8}))
    assert name == "gathered"
    assert "CUDA" in reason
    with pytest.raises(InvalidLoadOptionError, match="float32"):
        choose_attention("runs", **(HERE | {"kv_dtype": torch.int8}))


@pytest.mark.parametrize("multiplies", [True, False])
def test_bfloat16_keys_are_read_in_place_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, multiplies: bool
) -> None:
    monkeypatch.setattr(select, "multiplies_bfloat16", lambda: multiplies)
    both = HERE | {"dtype": torch.bfloat16, "kv_dtype": torch.bfloat16}
    assert choose_attention("auto", **both)[0] == ("runs" if multiplies else "gathered")
    # Of a float32 model they would be another rounding of what it computes.
    mixed = HERE | {"dtype": torch.float32, "kv_dtype": torch.bfloat16}
    assert choose_attention("auto", **mixed)[0] == "gathered"


def test_the_reference_can_be_asked_for_anywhere() -> None:
    assert choose_attention("gathered", **HERE) == ("gathered", "asked for")


@pytest.mark.parametrize("asked", ["paged", "flash-attn"])
def test_what_cannot_run_here_is_refused_with_the_reason(asked: str) -> None:
    with pytest.raises(InvalidLoadOptionError, match="CUDA") as caught:
        choose_attention(asked, **HERE)
    assert caught.value.parameter == "attention"
    assert caught.value.value == asked


def test_a_name_is_made_into_an_implementation() -> None:
    cache = PagedKVCache(
        num_layers=1, num_blocks=1, block_size=4, num_kv_heads=1, head_dim=16,
        dtype=torch.float32, device=torch.device("cpu"),
    )  # fmt: skip
    assert make_attention("gathered", cache, torch.float32).name == "gathered"


GPU = {"device": torch.device("cuda:0"), "head_dim": 128}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("capability", [(7, 0), (7, 5), (8, 0), (12, 0)])
def test_kernels_are_chosen_where_they_run(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    """Turing multiplies float16 alone; before it there are no kernels at all."""
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(select, "launch_obstacle", lambda device: None)
    runs = capability >= (8, 0) or (capability == (7, 5) and dtype == torch.float16)
    name, reason = choose_attention("auto", dtype=dtype, kv_dtype=dtype, **GPU)
    assert name == ("paged" if runs else "gathered")
    assert runs or "capability" in reason


@pytest.mark.parametrize("kind", [FileNotFoundError, PermissionError, AssertionError, Exception])
def test_where_triton_fails_for_whatever_reason_the_reference_runs(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """A cache directory that cannot be written, no libcuda, too little shared memory."""
    pytest.importorskip("triton")
    from aquila2_runtime.engine.attention import probe, probe_kernel

    def fail(place: torch.Tensor) -> torch.Tensor:
        raise kind("/root/.triton")

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(probe_kernel, "write_one", fail)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    probe._tried.cache_clear()
    try:
        half = {"dtype": torch.float16, "kv_dtype": torch.float16}
        name, reason = choose_attention("auto", **half, **GPU)
        assert name == "gathered"
        assert kind.__name__ in reason and "/root/.triton" in reason
        with pytest.raises(InvalidLoadOptionError, match=r"/root/\.triton"):
            choose_attention("paged", **half, **GPU)
    finally:
        probe._tried.cache_clear()


def test_a_card_that_was_full_once_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from aquila2_runtime.engine.attention import probe, probe_kernel

    asked: list[int] = []

    def write(place: torch.Tensor) -> torch.Tensor:
        asked.append(1)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")
        return torch.ones(1) * 7

    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(probe_kernel, "write_one", write)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    probe._tried.cache_clear()
    try:
        assert probe.launch_obstacle(GPU["device"]) is None
        for _ in range(2):
            assert "wrote 7" in str(probe.launch_obstacle(GPU["device"]))
        assert len(asked) == 2
    finally:
        probe._tried.cache_clear()


@pytest.mark.parametrize(
    ("capability", "dtype", "runs"),
    [
        ((7, 5), torch.float16, False),
        ((8, 6), torch.float32, False),
        ((8, 6), torch.bfloat16, True),
    ],
)
def test_heads_of_256_run_where_their_tiles_fit_shared_memory(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype, runs: bool
) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(select, "launch_obstacle", lambda device: None)
    wide = GPU | {"head_dim": 256, "dtype": dtype, "kv_dtype": dtype}
    assert choose_attention("auto", **wide)[0] == ("paged" if runs else "gathered")


def test_without_what_triton_builds_with_the_reason_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Python's headers are missing on many machines; Triton would find out at the first step."""
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(select, "launch_obstacle", lambda device: None)
    half = {"dtype": torch.float16, "kv_dtype": torch.float16}
    assert choose_attention("auto", **half, **GPU)[0] == "paged"
    monkeypatch.setattr(sysconfig, "get_paths", lambda **scheme: {"include": str(tmp_path)})
    name, reason = choose_attention("auto", **half, **GPU)
    assert name == "gathered"
    assert "python3-dev" in reason


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.gpu
def test_a_gpu_gets_the_paged_kernels() -> None:
    pytest.importorskip("triton")
    here = {"device": torch.device("cuda:0"), "dtype": torch.float16, "kv_dtype": torch.float16}
    assert choose_attention("auto", head_dim=128, **here)[0] == "paged"
    name, reason = choose_attention("auto", head_dim=96, **here)
    assert name == "gathered"
    assert "96" in reason
