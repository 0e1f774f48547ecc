"""Which attention is chosen, and that the choice can be overridden or says why not."""

from __future__ import annotations

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
    runs = capability >= (8, 0) or (capability == (7, 5) and dtype == torch.float16)
    name, reason = choose_attention("auto", dtype=dtype, kv_dtype=dtype, **GPU)
    assert name == ("paged" if runs else "gathered")
    assert runs or "capability" in reason


def test_without_what_triton_builds_with_the_reason_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Python's headers are missing on many machines; Triton would find out at the first step."""
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
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
