"""LoRA directories: what is read, and what is refused before anything is loaded."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from aquila2_runtime.checkpoint.config import ModelConfig, read_config
from aquila2_runtime.checkpoint.lora import (
    AdapterFiles,
    check_adapter,
    read_adapter,
    warn_of_other_base,
)
from aquila2_runtime.errors import (
    CheckpointError,
    ConfigError,
    ModelNotFoundError,
    WeightsError,
)
from tests.adapters import ALL, as_of_2023, random_adapter
from tests.fixtures_checkpoint import make_checkpoint

PREFIX = "base_model.model.model.layers."


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("base"), num_key_value_heads=2)


@pytest.fixture(scope="module")
def config(base: Path) -> ModelConfig:
    return read_config(base)


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    return random_adapter(base, tmp_path / "adapter")


def change(adapter: Path, **settings: Any) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def rewrite(adapter: Path, change: Any) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)


def check(adapter: Path, config: ModelConfig) -> AdapterFiles:
    return check_adapter("mine", adapter, config)


def refuse(adapter: Path, config: ModelConfig, error: type[CheckpointError], named: str) -> str:
    with pytest.raises(error) as caught:
        check(adapter, config)
    assert caught.value.parameter is not None
    assert named in caught.value.parameter
    return str(caught.value)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["down_proj"], list(ALL)])
@pytest.mark.parametrize("rank", [1, 8, 64])
def test_every_pair_is_found_with_its_values(
    base: Path, config: ModelConfig, tmp_path: Path, targets: list[str], rank: int
) -> None:
    path = random_adapter(base, tmp_path / "a", r=rank, target_modules=targets)
    files = check(path, config)
    assert set(files.pairs) == {(layer, target) for layer in (0, 1) for target in targets}
    assert files.config.scaling == 16 / rank
    stored = load_file(path / "adapter_model.safetensors")
    for (layer, target), (down, up) in read_adapter(files).items():
        block = "mlp" if target in ("gate_proj", "up_proj", "down_proj") else "self_attn"
        assert torch.equal(down, stored[f"{PREFIX}{layer}.{block}.{target}.lora_A.weight"])
        assert torch.equal(up, stored[f"{PREFIX}{layer}.{block}.{target}.lora_B.weight"])


def test_the_layout_of_the_reference_projects_training_is_read(
    adapter: Path, config: ModelConfig, tmp_path: Path
) -> None:
    """r 8, alpha 16, q_proj and v_proj; a pickle and few settings, as peft wrote in 2023."""
    old = as_of_2023(adapter, tmp_path / "old")
    files = check(old, config)
    assert (files.config.rank, files.config.scaling) == (8, 2.0)
    new = read_adapter(check(adapter, config))
    for place, pair in read_adapter(files).items():
        assert all(torch.equal(a, b) for a, b in zip(pair, new[place], strict=True))
    with pytest.raises(WeightsError, match="allow_pickle"):
        check_adapter("mine", old, config, allow_pickle=False)


def test_a_pickle_that_holds_more_than_tensors_is_not_opened(
    adapter: Path, config: ModelConfig, tmp_path: Path
) -> None:
    """L2: nothing in an adapter's directory can run."""
    old = as_of_2023(adapter, tmp_path / "old")
    mark = tmp_path / "it-ran"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    (old / "adapter_model.bin").write_bytes(pickle.dumps(Trap()))
    refuse(old, config, WeightsError, "adapter_model.bin")
    assert not mark.exists()


def test_rslora_scales_by_the_root_of_the_rank(adapter: Path, config: ModelConfig) -> None:
    change(adapter, use_rslora=True)
    assert check(adapter, config).config.scaling == pytest.approx(16 / 8**0.5)


def test_some_layers_only(base: Path, config: ModelConfig, tmp_path: Path) -> None:
    path = random_adapter(base, tmp_path / "a", layers_to_transform=[1])
    assert {layer for layer, _ in check(path, config).pairs} == {1}
    change(path, layers_to_transform=[0])
    refuse(path, config, WeightsError, "layers.0")
    change(path, layers_to_transform=[2])
    refuse(path, config, ConfigError, "layers_to_transform")


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"lora_bias": True},
        {"modules_to_save": ["lm_head"]},
        {"alora_invocation_tokens": [5, 6]},
        {"rank_pattern": {"q_proj": 4}},
        {"alpha_pattern": {"q_proj": 4}},
        {"layer_replication": [[0, 2], [1, 2]]},
        {"trainable_token_indices": [7]},
        {"target_parameters": ["x"]},
        {"loftq_config": {"loftq_bits": 4}},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "pissa_niter_4"},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "corda"},
        {"init_lora_weights": 1},
        {"use_qalora": True},
        {"fan_in_fan_out": True},
        {"peft_type": "IA3"},
        {"peft_type": None},
        {"task_type": "SEQ_CLS"},
        {"r": 0},
        {"r": 65},
        {"r": True},
        {"r": "8"},
        {"lora_alpha": 0},
        {"lora_alpha": None},
        {"target_modules": ["embed_tokens"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["query_key_value"]},
        {"target_modules": []},
        {"target_modules": [3]},
        {"layers_to_transform": ["0"]},
        {"something_new": 0.5},
        {"something_new": 0},
    ],
    ids=lambda settings: "-".join(f"{key}={value}" for key, value in settings.items()),
)
def test_what_is_not_plain_lora_is_refused_and_the_key_named(
    adapter: Path, config: ModelConfig, settings: dict[str, Any]
) -> None:
    change(adapter, **settings)
    (key,) = settings
    refuse(adapter, config, ConfigError, key)


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_a_newer_feature_that_is_off_does_not_matter(
    adapter: Path, config: ModelConfig, value: Any
) -> None:
    change(adapter, something_new=value)
    check(adapter, config)


def test_a_pattern_of_targets_takes_what_the_file_holds(adapter: Path, config: ModelConfig) -> None:
    """The pattern itself is never evaluated."""
    change(adapter, target_modules=r"(a+)+$.*\.(q_proj|v_proj)")
    assert len(check(adapter, config).pairs) == 4


@pytest.mark.parametrize("base_name", ["BAAI/AquilaChat2-34B", "./checkpoints/other/"])
def test_another_base_is_worth_a_line_in_the_log(
    adapter: Path, config: ModelConfig, base_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    change(adapter, base_model_name_or_path=base_name)
    files = check(adapter, config)
    with caplog.at_level(logging.WARNING):
        warn_of_other_base(files, "AquilaChat2-7B")
    assert "AquilaChat2-7B" in caplog.text
    caplog.clear()
    change(adapter, base_model_name_or_path="/models/aquilachat2-7b/")
    warn_of_other_base(check(adapter, config), "AquilaChat2-7B")
    assert caplog.text == ""


def test_the_directory_must_be_there_and_hold_both_files(
    adapter: Path, config: ModelConfig, tmp_path: Path
) -> None:
    with pytest.raises(ModelNotFoundError, match="mine") as caught:
        check(tmp_path / "nothing", config)
    assert caught.value.parameter == "adapters"
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"adapter_model\.safetensors"):
        check(adapter, config)
    (adapter / "adapter_config.json").unlink()
    refuse(adapter, config, ConfigError, "adapter_config.json")


def test_an_adapter_of_another_base_is_refused_by_its_shapes(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    for changes, tensor in (
        ({"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 4}, "lora_A"),
        ({"num_key_value_heads": 4}, "v_proj.lora_B"),
        ({"num_hidden_layers": 1, "num_key_value_heads": 2}, "layers.1"),
    ):
        other = make_checkpoint(tmp_path / f"other{len(changes)}{tensor}", **changes)
        assert "has" in refuse(adapter, read_config(other), WeightsError, tensor)
    more = make_checkpoint(tmp_path / "more", num_hidden_layers=3, num_key_value_heads=2)
    assert "missing" in refuse(adapter, read_config(more), WeightsError, "layers.2")


def test_a_resized_vocabulary_is_named(adapter: Path, config: ModelConfig) -> None:
    name = "base_model.model.model.embed_tokens.weight"
    rewrite(adapter, lambda tensors: tensors.update({name: torch.zeros(321, 32)}))
    assert "vocabulary of 321" in refuse(adapter, config, WeightsError, "embed_tokens")
    rewrite(adapter, lambda tensors: tensors.update({name: torch.zeros(320, 32)}))
    assert "whole table" in refuse(adapter, config, WeightsError, "embed_tokens")


def test_tensors_that_are_missing_doubled_or_unexpected_are_named(
    base: Path, config: ModelConfig, tmp_path: Path
) -> None:
    q_down = PREFIX + "0.self_attn.q_proj.lora_A.weight"
    q_up = PREFIX + "0.self_attn.q_proj.lora_B.weight"
    cases: dict[str, tuple[Any, str]] = {
        "one of a pair": (lambda t: t.pop(q_up), "q_proj.lora_B"),
        "a pair": (lambda t: [t.pop(q_up), t.pop(q_down)], "q_proj.lora_A"),
        "twice": (
            lambda t: t.update({q_up.replace("lora_B", "lora_B.default"): t[q_up].clone()}),
            "q_proj.lora_B",
        ),
        "magnitude": (
            lambda t: t.update(
                {PREFIX + "0.self_attn.q_proj.lora_magnitude_vector": torch.ones(32)}
            ),
            "magnitude",
        ),
        "block": (lambda t: t.update({q_up.replace("self_attn", "mlp"): t.pop(q_up)}), "mlp"),
        "untargeted": (
            lambda t: t.update(
                {
                    q_down.replace("q_proj", "o_proj"): torch.zeros(8, 32),
                    q_up.replace("q_proj", "o_proj"): torch.zeros(32, 8),
                }
            ),
            "o_proj",
        ),
        "type": (lambda t: t.update({q_up: t[q_up].to(torch.float64)}), "q_proj.lora_B"),
        "all": (lambda t: t.clear(), "adapter_model"),
    }
    for number, (spoil, named) in enumerate(cases.values()):
        path = random_adapter(base, tmp_path / str(number))
        rewrite(path, spoil)
        refuse(path, config, WeightsError, named)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_found_when_they_are_read(
    adapter: Path, config: ModelConfig, value: float
) -> None:
    name = PREFIX + "1.self_attn.v_proj.lora_B.weight"
    rewrite(adapter, lambda tensors: tensors[name].view(-1).__setitem__(3, value))
    with pytest.raises(WeightsError, match="NaN or infinity") as caught:
        read_adapter(check(adapter, config))
    assert caught.value.parameter == name


def test_equal_contents_are_one_adapter_wherever_they_lie(
    base: Path, config: ModelConfig, tmp_path: Path
) -> None:
    first = check(random_adapter(base, tmp_path / "a"), config)
    again = check(random_adapter(base, tmp_path / "b"), config)
    other = check(random_adapter(base, tmp_path / "c", seed=1), config)
    assert first.digest == again.digest != other.digest
    change(tmp_path / "b", lora_alpha=8)
    assert check(tmp_path / "b", config).digest != first.digest
