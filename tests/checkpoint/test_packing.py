"""GPTQ and AWQ checkpoints: unpacked to the last bit, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.convert import convert_checkpoint
from aquila2_runtime.checkpoint.hub_files import choose_files
from aquila2_runtime.checkpoint.packing import Packing, read_packing
from aquila2_runtime.checkpoint.unpack import unpack
from aquila2_runtime.checkpoint.verify import verify_weights
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.errors import ConfigError, WeightsError
from tests.checkpoint.packers import awq, gptq, known, packed_checkpoint

CPU = torch.device("cpu")
FORMS: list[dict[str, Any]] = [
    {"method": "gptq"},
    {"method": "gptq", "group_size": -1},
    {"method": "gptq", "act_order": True},
    {"method": "gptq_v2"},
    {"method": "gptq_v2", "act_order": True, "group_size": 8},
    {"method": "awq"},
    {"method": "awq", "group_size": -1},
    {"method": "awq", "layout": "bin-sharded"},
    {"method": "gptq", "layout": "safetensors-sharded", "old_file": True},
    {"method": "awq", "layout": "bin", "old_file": True},
]


def load(path: Path, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    return load_weights(path, read_config(path), dtype=dtype, device=CPU, **options)


@pytest.mark.parametrize("group_size", [8, 32, 128, -1])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("less_one", [False, True])
def test_gptq_is_unpacked_exactly(group_size: int, act_order: bool, less_one: bool) -> None:
    weight = known(24, 128, group_size, act_order=act_order, seed=5)
    packing = Packing("gptq", None if group_size == -1 else group_size, less_one, act_order)
    got = unpack("w", packing, gptq(weight, less_one=less_one))
    assert torch.equal(got, weight.weight())


@pytest.mark.parametrize("group_size", [8, 32, 128, -1])
def test_awq_is_unpacked_exactly(group_size: int) -> None:
    weight = known(40, 128, group_size, seed=6)
    packing = Packing("awq", None if group_size == -1 else group_size)
    assert torch.equal(unpack("w", packing, awq(weight)), weight.weight())


def test_the_last_group_may_be_smaller() -> None:
    weight = known(8, 40, 16, seed=7)
    assert torch.equal(
        unpack("w", Packing("gptq", 16, True), gptq(weight, less_one=True)), weight.weight()
    )


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
def test_a_packed_checkpoint_loads_as_the_numbers_it_stands_for(
    tmp_path: Path, form: dict[str, Any]
) -> None:
    meant = packed_checkpoint(tmp_path, **form)
    for dtype in (torch.float32, torch.bfloat16):
        parameters = dict(load(tmp_path, dtype).named_parameters())
        assert set(parameters) == set(meant)
        for name, tensor in meant.items():
            assert torch.equal(parameters[name], tensor.to(dtype)), name


def test_a_packed_checkpoint_can_be_packed_again_into_nf4(tmp_path: Path) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    meant = packed_checkpoint(tmp_path, "gptq")
    model = load(tmp_path, torch.float32, quantization="nf4")
    weight = model.model.layers[0].mlp.up_proj.weight
    assert type(weight).__name__ == "Params4bit"
    wanted = meant["model.layers.0.mlp.up_proj.weight"]
    packed, state = bitsandbytes.functional.quantize_4bit(
        wanted, quant_type="nf4", compress_statistics=True
    )
    assert torch.equal(weight.data, packed)
    assert torch.equal(weight.quant_state.absmax, state.absmax)


def test_the_name_that_autogptq_gave_its_file_is_known(tmp_path: Path) -> None:
    meant = packed_checkpoint(tmp_path, "gptq", group_size=-1, old_file=True)
    (tmp_path / "model.safetensors").rename(tmp_path / "gptq_model-4bit--1g.safetensors")
    parameters = dict(load(tmp_path).named_parameters())
    assert all(torch.equal(parameters[name], tensor) for name, tensor in meant.items())
    names = [file.name for file in tmp_path.iterdir()]
    assert set(choose_files(names, allow_pickle=False, repository="a/b")) == set(names)


@pytest.mark.parametrize("layout", ["safetensors", "safetensors-sharded", "bin", "bin-sharded"])
def test_biases_of_zeros_as_autogptq_writes_them_are_passed_over(
    tmp_path: Path, layout: str
) -> None:
    meant = packed_checkpoint(tmp_path / "source", "gptq", layout=layout, bias=0.0)
    parameters = dict(load(tmp_path / "source").named_parameters())
    assert set(parameters) == set(meant)
    assert all(torch.equal(parameters[name], tensor) for name, tensor in meant.items())
    made = convert_checkpoint(tmp_path / "source", tmp_path / "new", dtype="float32")
    assert set().union(*(load_file(made.path / name) for name in made.files)) == set(meant)


@pytest.mark.parametrize(
    ("method", "bias", "problem"),
    [
        ("gptq", 1e-3, "is not zero"),
        ("gptq", float("nan"), "is not zero"),
        ("awq", 0.0, "not part"),
    ],
)
def test_other_biases_are_refused(tmp_path: Path, method: str, bias: float, problem: str) -> None:
    packed_checkpoint(tmp_path, method, bias=bias)
    with pytest.raises(WeightsError, match=problem):
        load(tmp_path)


def test_groups_need_not_be_told_where_they_follow_the_order(tmp_path: Path) -> None:
    meant = packed_checkpoint(tmp_path, "gptq")
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    save_file({name: t for name, t in tensors.items() if not name.endswith("g_idx")}, file)
    parameters = dict(load(tmp_path).named_parameters())
    assert all(torch.equal(parameters[name], tensor) for name, tensor in meant.items())
    packed_checkpoint(tmp_path / "act", "gptq", act_order=True)
    file = tmp_path / "act" / "model.safetensors"
    tensors = load_file(file)
    save_file({name: t for name, t in tensors.items() if not name.endswith("g_idx")}, file)
    with pytest.raises(WeightsError, match="g_idx"):
        load(tmp_path / "act")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"quant_method": "gptq", "bits": 8, "group_size": 16}, "bits"),
        ({"quant_method": "gptq", "bits": 3, "group_size": 16}, "bits"),
        ({"quant_method": "gptq", "bits": True, "group_size": 16}, "bits"),
        ({"quant_method": "gptq", "bits": 4}, "group_size"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 12}, "group_size"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 0}, "group_size"),
        ({"quant_method": "gptq", "bits": 4, "group_size": "128"}, "group_size"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": 1}, "desc_act"),
        (
            {"quant_method": "gptq", "bits": 4, "group_size": 16, "checkpoint_format": "marlin"},
            "marlin",
        ),
        ({"quant_method": "gptq", "bits": 4, "group_size": 16, "lm_head": True}, "head"),
        ({"quant_method": "awq", "bits": 4, "group_size": 16, "version": "gemv"}, "gemv"),
        ({"quant_method": "awq", "bits": 4, "group_size": 16, "zero_point": False}, "zero points"),
        (
            {
                "quant_method": "awq",
                "bits": 4,
                "group_size": 16,
                "modules_to_not_convert": ["q_proj"],
            },
            "modules_to_not_convert",
        ),
        ({"quant_method": "awq", "bits": 4}, "group_size"),
        ({"quant_method": "eetq"}, "eetq"),
        ({"bits": 4, "group_size": 16}, "quant_method"),
        ("gptq", "object"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_settings_that_are_wrong_or_unknown_are_refused(settings: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        read_packing({"quantization_config": settings})
    assert caught.value.parameter == "quantization_config"


def test_packed_weights_without_settings_are_named(tmp_path: Path) -> None:
    packed_checkpoint(tmp_path, "gptq", old_file=True)
    (tmp_path / "quantize_config.json").unlink()
    with pytest.raises(WeightsError, match="no quantization_config"):
        load(tmp_path)


def test_settings_of_another_layout_are_found_by_the_shapes(tmp_path: Path) -> None:
    true = {"quant_method": "gptq", "bits": 4, "group_size": 16}
    for number, (method, settings) in enumerate(
        (
            ("awq", true),
            ("gptq", {**true, "group_size": 8}),
            ("gptq", {"quant_method": "awq", "bits": 4, "group_size": 16}),
        )
    ):
        path = tmp_path / str(number)
        packed_checkpoint(path, method, settings=settings)
        with pytest.raises(WeightsError, match=r"(qweight|qzeros|scales|g_idx) (has|is)"):
            verify_weights(path, read_config(path))


def test_act_order_that_the_settings_deny_is_found(tmp_path: Path) -> None:
    packed_checkpoint(
        tmp_path,
        "gptq",
        act_order=True,
        settings={"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": False},
    )
    with pytest.raises(WeightsError, match="desc_act"):
        load(tmp_path)


@pytest.mark.parametrize("value", [-1, 2, 1000])
def test_groups_that_do_not_exist_are_found(tmp_path: Path, value: int) -> None:
    packed_checkpoint(tmp_path, "gptq", act_order=True)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.self_attn.q_proj.g_idx"][7] = value
    save_file(tensors, file)
    with pytest.raises(WeightsError, match="do not exist"):
        load(tmp_path)


def test_wrong_types_and_values_that_are_not_finite_are_found(tmp_path: Path) -> None:
    packed_checkpoint(tmp_path, "awq")
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    name = "model.layers.0.mlp.gate_proj.scales"
    kept = tensors[name].clone()
    tensors[name][1, 3] = float("nan")
    save_file(tensors, file)
    with pytest.raises(WeightsError, match="NaN"):
        load(tmp_path)
    tensors[name] = torch.full_like(kept, 60_000)
    save_file(tensors, file)
    with pytest.raises(WeightsError, match="float16 cannot hold"):
        load(tmp_path, torch.float16)
    tensors[name] = kept
    tensors["model.layers.0.mlp.gate_proj.qweight"] = tensors[
        "model.layers.0.mlp.gate_proj.qweight"
    ].long()
    save_file(tensors, file)
    with pytest.raises(WeightsError, match="int32"):
        load(tmp_path)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
def test_a_packed_checkpoint_is_converted_into_the_numbers_it_stands_for(
    tmp_path: Path, form: dict[str, Any]
) -> None:
    meant = packed_checkpoint(tmp_path / "source", **form)
    made = convert_checkpoint(tmp_path / "source", tmp_path / "new", dtype="bfloat16")
    found: dict[str, torch.Tensor] = {}
    for name in made.files:
        found |= load_file(made.path / name)
    assert set(found) == set(meant)
    assert all(torch.equal(found[name], tensor.bfloat16()) for name, tensor in meant.items())
    config = read_config(made.path)
    assert config.packing is None
    assert "quantization_config" not in config.raw
    assert not {"quantize_config.json", "quant_config.json"} & {
        file.name for file in made.path.iterdir()
    }


def test_parts_of_a_weight_may_lie_in_different_shards(tmp_path: Path) -> None:
    meant = packed_checkpoint(tmp_path / "source", "gptq", layout="safetensors-sharded")
    made = convert_checkpoint(tmp_path / "source", tmp_path / "new", dtype="float32")
    split = {name.rpartition(".")[0] for name in meant}
    index = json.loads((tmp_path / "source/model.safetensors.index.json").read_text())["weight_map"]
    homes = [{index[name] for name in index if name.startswith(f"{module}.")} for module in split]
    assert max(map(len, homes)) == 2, "no weight of this fixture is spread over two shards"
    found: dict[str, torch.Tensor] = {}
    for name in made.files:
        found |= load_file(made.path / name)
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in meant.items())
