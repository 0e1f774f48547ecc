from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aquila2_runtime.checkpoint.config import ModelConfig, parse_config, read_config
from aquila2_runtime.checkpoint.free_memory import (
    UNKNOWN,
    available_cpu_memory,
    available_memory,
)
from aquila2_runtime.checkpoint.memory import MemoryEstimate, estimate_memory
from aquila2_runtime.checkpoint.shortage import does_not_fit
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.errors import InsufficientMemoryError, InvalidLoadOptionError
from tests.fixtures_checkpoint import make_checkpoint, make_config

GIB = 2**30


def check_fits(estimate: MemoryEstimate, available: int) -> None:
    """What loading on one device does."""
    if estimate.total > available:
        raise does_not_fit(estimate, [available])


def released(
    hidden: int, inner: int, layers: int, heads: int, kv: int | None, context: int
) -> ModelConfig:
    return parse_config(
        make_config(
            hidden_size=hidden,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv,
            max_position_embeddings=context,
            vocab_size=100_008,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


SEVEN = released(4096, 11008, 32, 32, None, 2048)
THIRTY_FOUR = released(6144, 24576, 60, 48, 8, 16384)
SEVENTY = released(8192, 28672, 80, 64, 8, 4096)


@pytest.mark.parametrize(
    ("config", "gigabytes", "kv_kib", "kv_gib"),
    [(SEVEN, 14.59, 512, 1.0), (THIRTY_FOUR, 67.39, 240, 3.75), (SEVENTY, 140.18, 320, 1.25)],
)
def test_the_released_sizes_give_the_published_figures(
    config: ModelConfig, gigabytes: float, kv_kib: int, kv_gib: float
) -> None:
    """L10: the estimate follows from the configuration alone."""
    estimate = estimate_memory(config, dtype="bfloat16")
    assert round(estimate.weights / 1e9, 2) == gigabytes
    assert estimate.kv_per_token == kv_kib * 1024
    assert estimate.kv_cache == kv_gib * GIB
    assert estimate.total == estimate.weights + estimate.kv_cache + estimate.workspace


def test_a_context_is_brought_together_in_the_type_it_is_stored_in() -> None:
    """On CPU that may be fp32, whatever the weights are."""
    config = released(4_096, 11_008, 32, 32, None, 16_384)
    narrow = estimate_memory(config, dtype="bfloat16", kv_dtype="bfloat16")
    wide = estimate_memory(config, dtype="bfloat16", kv_dtype="float32")
    assert narrow.gathered == 2 * 4_096 * 2
    assert wide.gathered == 2 * 4_096 * 4
    assert wide.workspace - narrow.workspace == 16_384 * (wide.gathered - narrow.gathered)
    columns = estimate_memory(config, dtype="bfloat16", kv_dtype="bfloat16", kv_columns=True)
    assert 2 * columns.kv_per_token == 3 * narrow.kv_per_token


def test_the_estimate_is_what_a_loaded_model_holds(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path)
    config = read_config(path)
    for dtype in (torch.float32, torch.bfloat16):
        model = load_weights(path, config, dtype=dtype, device=torch.device("cpu"))
        held = sum(p.numel() * p.element_size() for p in model.parameters())
        assert estimate_memory(config, dtype=str(dtype).removeprefix("torch.")).weights == held


def test_packed_weights_and_narrower_caches_need_less() -> None:
    plain = estimate_memory(SEVEN, dtype="bfloat16").weights
    int8 = estimate_memory(SEVEN, dtype="bfloat16", quantization="int8").weights
    nf4 = estimate_memory(SEVEN, dtype="bfloat16", quantization="nf4").weights
    assert nf4 < int8 < plain
    assert 5.2e9 < nf4 < 5.4e9
    wide = estimate_memory(SEVEN, dtype="bfloat16", kv_dtype="float32", max_model_len=1024)
    assert wide.kv_cache == GIB
    assert estimate_memory(SEVEN, dtype="bfloat16", kv_tokens=4096).kv_cache == 2 * GIB
    # A byte per number, and four per head of 128.
    eight = estimate_memory(SEVEN, dtype="bfloat16", kv_dtype="int8", kv_tokens=2048)
    assert eight.kv_cache == GIB * (128 + 4) // 256


def test_captured_steps_and_the_copy_of_packed_weights_are_counted() -> None:
    plain = estimate_memory(SEVEN, dtype="bfloat16", quantization="nf4")
    graphs = estimate_memory(SEVEN, dtype="bfloat16", quantization="nf4", graphs=20)
    copy = estimate_memory(SEVEN, dtype="bfloat16", quantization="nf4", nf4_copy=True)
    assert plain.graphs == plain.copy == 0
    assert graphs.total == plain.total + graphs.graphs > plain.total
    assert graphs.reserve == graphs.workspace + graphs.graphs
    assert copy.copy == 2 * SEVEN.linear_parameters
    assert copy.total == plain.total + copy.copy
    assert "captured steps" in graphs.table()
    assert "16-bit copy" in copy.table()


@pytest.mark.parametrize(("config", "widest"), [(SEVEN, 22_016 * 4_096), (SEVENTY, 57_344 * 8_192)])
def test_a_4_bit_weight_that_is_unpacked_for_many_rows_is_counted(
    config: ModelConfig, widest: int
) -> None:
    """Once for prompts and once for captured steps, which keep memory of their own."""
    options = {"dtype": "bfloat16", "quantization": "nf4", "graphs": 20}
    plain = estimate_memory(config, **options)  # type: ignore[arg-type]
    unpacked = estimate_memory(config, **options, unpacks=True)  # type: ignore[arg-type]
    assert unpacked.workspace - plain.workspace == 2 * widest
    assert unpacked.graphs - plain.graphs == 2 * widest
    copied = estimate_memory(config, **options, unpacks=True, nf4_copy=True)  # type: ignore[arg-type]
    assert copied.workspace == plain.workspace
    wide = estimate_memory(config, dtype="bfloat16", unpacks=True)
    assert wide.workspace == estimate_memory(config, dtype="bfloat16").workspace


def test_what_a_step_needs_beside_weights_is_a_small_part_of_them() -> None:
    """7B, 34B and 70B at a long context and full batches: under a seventh of the weights."""
    for config in (SEVEN, THIRTY_FOUR, SEVENTY):
        estimate = estimate_memory(config, dtype="bfloat16", step_tokens=2048, graphs=20)
        assert 0.2 * GIB < estimate.reserve < estimate.weights / 7


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "int4"},
        {"dtype": "bfloat16", "kv_dtype": "fp8"},
        {"dtype": "float16", "quantization": "awq"},
    ],
)
def test_unknown_types_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidLoadOptionError):
        estimate_memory(SEVEN, **options)


def test_what_does_not_fit_is_refused_with_a_table_and_the_largest_context_that_would() -> None:
    """L10: too big is InsufficientMemoryError with a table and max_model_len."""
    estimate = estimate_memory(THIRTY_FOUR, dtype="bfloat16")
    check_fits(estimate, estimate.total)
    with pytest.raises(InsufficientMemoryError) as caught:
        check_fits(estimate, estimate.total - 1)
    text = str(caught.value)
    for part in ("weights (bfloat16)", "keys and values, 16384 tokens", "workspace", "total"):
        assert part in text
    assert "max_model_len=16368" in text
    assert caught.value.parameter == "max_model_len"


def test_the_largest_context_really_fits_and_the_next_does_not() -> None:
    """L10: the advice holds."""
    available = estimate_memory(SEVEN, dtype="bfloat16").total - 300 * 2**20
    fits = estimate_memory(SEVEN, dtype="bfloat16").largest_context(available)
    assert 0 < fits < 2048
    check_fits(estimate_memory(SEVEN, dtype="bfloat16", max_model_len=fits), available)
    with pytest.raises(InsufficientMemoryError):
        check_fits(estimate_memory(SEVEN, dtype="bfloat16", max_model_len=fits + 16), available)


def test_weights_that_do_not_fit_are_met_with_another_way_to_load_them() -> None:
    """L10: no context helps where the weights alone are too large."""
    with pytest.raises(InsufficientMemoryError, match="nf4"):
        check_fits(estimate_memory(SEVENTY, dtype="bfloat16"), 24 * GIB)
    with pytest.raises(InsufficientMemoryError, match="smaller checkpoint"):
        check_fits(estimate_memory(SEVENTY, dtype="bfloat16", quantization="nf4"), 24 * GIB)


def fake(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "ascii")
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    4096 kB\n"}


def test_without_control_groups_the_systems_available_memory_counts(tmp_path: Path) -> None:
    assert available_cpu_memory(fake(tmp_path, MEMINFO)) == 4096 * 1024


@pytest.mark.parametrize("place", ["a/b/", "a/", ""])
def test_a_limit_of_any_enclosing_control_group_counts(tmp_path: Path, place: str) -> None:
    group = f"sys/fs/cgroup/{place}memory"
    root = fake(
        tmp_path,
        MEMINFO
        | {
            "proc/self/cgroup": "0::/a/b\n",
            f"{group}.max": "1000000\n",
            f"{group}.current": "700000\n",
            f"{group}.stat": "anon 5\ninactive_file 50000\n",
        },
    )
    assert available_cpu_memory(root) == 350_000


def test_an_unlimited_group_and_one_of_version_1_are_read(tmp_path: Path) -> None:
    group = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}
    assert available_cpu_memory(fake(tmp_path / "v2", MEMINFO | group)) == 4096 * 1024
    older = {
        "proc/self/cgroup": "5:cpu:/x\n4:memory:/x\n",
        "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "2000000\n",
        "sys/fs/cgroup/memory/x/memory.usage_in_bytes": "1999999\n",
    }
    assert available_cpu_memory(fake(tmp_path / "v1", MEMINFO | older)) == 1


def test_this_machine_says_how_much_memory_is_free() -> None:
    assert 0 < available_memory("cpu") < UNKNOWN


@pytest.mark.gpu
def test_a_gpu_says_how_much_memory_is_free() -> None:
    assert 0 < available_memory("cuda:0") <= torch.cuda.get_device_properties(0).total_memory
