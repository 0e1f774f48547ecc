"""Directories that bitsandbytes packed: read as transformers writes them, written as it reads them.

The real transformers and bitsandbytes write and read here, on CPU.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from aquila2_runtime import Aquila2Runtime, SamplingParams
from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.convert import convert_checkpoint
from aquila2_runtime.checkpoint.prequantized import read_prequantized, settle_form
from aquila2_runtime.checkpoint.register import register
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.errors import ConfigError, InvalidLoadOptionError, WeightsError
from tests.checkpoint.packers import packed_checkpoint
from tests.fixtures_checkpoint import make_checkpoint

pytest.importorskip("bitsandbytes")

CPU = torch.device("cpu")
IDS = torch.arange(1, 41)[None]
LAYER = "model.layers.1"
FORMS: dict[str, dict[str, Any]] = {
    "nf4-double": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
    },
    "nf4": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": "bfloat16",
        "llm_int8_skip_modules": ["lm_head", "down_proj", "model.layers.0.self_attn"],
    },
    "int8": {"load_in_8bit": True},
}


def from_transformers(path: Path, **settings: Any) -> Any:
    """Load by transformers itself, packing by ``settings`` if there are any."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    register()
    # Said only where there is something to say: a None would hide what config.json says.
    packing = {"quantization_config": BitsAndBytesConfig(**settings)} if settings else {}
    model = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.bfloat16, device_map={"": "cpu"}, **packing
    )
    return model.eval()


def load(path: Path, dtype: torch.dtype = torch.bfloat16, **options: Any) -> Any:
    return load_weights(path, read_config(path), dtype=dtype, device=CPU, **options)


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(IDS).logits
    return found


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in path.glob("*.safetensors"):
        found |= load_file(file)
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unquantized checkpoint, wide enough for whole blocks."""
    return make_checkpoint(
        tmp_path_factory.mktemp("plain") / "source",
        hidden_size=64,
        intermediate_size=192,
        num_key_value_heads=2,
        torch_dtype="bfloat16",
        dtype=torch.bfloat16,
    )


@pytest.fixture(scope="module")
def saved(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same as transformers saves it in every form, in several shards."""
    folder = tmp_path_factory.mktemp("saved")
    for name, settings in FORMS.items():
        from_transformers(plain, **settings).save_pretrained(folder / name, max_shard_size="60KB")
    return {name: folder / name for name in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_what_transformers_saved_gives_the_logits_that_transformers_gives(
    saved: dict[str, Path], form: str
) -> None:
    assert len(list(saved[form].glob("*.safetensors"))) > 1
    ours = load(saved[form])
    theirs = from_transformers(saved[form])
    assert torch.equal(logits(ours), logits(theirs))
    kinds = {name: type(module).__name__ for name, module in ours.named_modules()}
    assert kinds == {name: type(module).__name__ for name, module in theirs.named_modules()}
    packed = {"nf4-double": 14, "nf4": 8, "int8": 14}[form]
    assert sum(kind in ("Linear4bit", "Linear8bitLt") for kind in kinds.values()) == packed


@pytest.mark.parametrize(("form", "quantization"), [("nf4-double", "nf4"), ("int8", "int8")])
def test_what_convert_writes_is_what_transformers_would_have_saved(
    plain: Path, saved: dict[str, Path], tmp_path: Path, form: str, quantization: str
) -> None:
    made = convert_checkpoint(
        plain, tmp_path / "new", quantization=quantization, shard_bytes=60_000
    )
    assert len(made.files) > 1
    ours, theirs = tensors_of(made.path), tensors_of(saved[form])
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        if "quant_state" in name:
            assert json.loads(bytes(ours[name].tolist())) == json.loads(bytes(tensor.tolist()))
        else:
            assert ours[name].dtype == tensor.dtype, name
            assert torch.equal(ours[name], tensor), name
    assert made.num_bytes == sum(t.numel() * t.element_size() for t in ours.values())
    read, direct = load(made.path), load(plain, quantization=quantization)
    assert torch.equal(logits(read), logits(direct))
    assert torch.equal(logits(from_transformers(made.path)), logits(direct))


def test_gptq_weights_are_converted_into_nf4_as_they_would_be_loaded(tmp_path: Path) -> None:
    packed_checkpoint(tmp_path / "source", "gptq", old_file=True)
    made = convert_checkpoint(
        tmp_path / "source", tmp_path / "new", quantization="nf4", dtype="bfloat16"
    )
    direct = load(tmp_path / "source", quantization="nf4")
    assert torch.equal(logits(load(made.path)), logits(direct))
    assert read_config(made.path).packing is None


def test_the_runtime_serves_a_packed_directory_as_it_serves_the_packed_load(
    plain: Path, tmp_path: Path
) -> None:
    made = convert_checkpoint(plain, tmp_path / "new", quantization="nf4")
    params = SamplingParams(temperature=0, max_tokens=24)
    answers = []
    for path, options in ((plain, {"quantization": "nf4"}), (made.path, {})):
        with Aquila2Runtime.load(str(path), device="cpu", dtype="bfloat16", **options) as runtime:
            answers.append(runtime.complete("the other one", params).token_ids)
            assert runtime.info.quantization == "nf4"
    assert answers[0] == answers[1]
    assert "NF4" in runtime.info.reasons["quantization"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_not_packed_takes_the_type_that_is_asked_for(
    saved: dict[str, Path], plain: Path, dtype: torch.dtype
) -> None:
    for model in (load(saved["nf4-double"], dtype), load(plain, dtype, quantization="nf4")):
        floats = {
            parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()
        }
        assert floats == {dtype}
        assert logits(model).dtype == dtype


def test_another_form_than_the_files_have_is_refused(saved: dict[str, Path]) -> None:
    with pytest.raises(InvalidLoadOptionError, match="int8") as caught:
        Aquila2Runtime.load(str(saved["nf4"]), device="cpu", quantization="int8")
    assert caught.value.parameter == "quantization"
    form = read_config(saved["nf4"]).prequantized
    assert settle_form(form, "nf4") == "nf4"
    with pytest.raises(InvalidLoadOptionError, match="merge_adapter"):
        settle_form(form, None, "mine")
    assert settle_form(None, "int8", "mine") == "int8"


def test_packed_weights_and_unknown_forms_are_not_converted(
    plain: Path, saved: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="NF4"):
        convert_checkpoint(saved["nf4"], tmp_path / "new", dtype="bfloat16")
    with pytest.raises(InvalidLoadOptionError, match="int4"):
        convert_checkpoint(plain, tmp_path / "new", quantization="int4")
    assert list(tmp_path.iterdir()) == []


NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({**NF4, "bnb_4bit_quant_type": "fp4"}, "fp4"),
        ({**NF4, "bnb_4bit_quant_storage": "bfloat16"}, "bfloat16"),
        ({**NF4, "bnb_4bit_use_double_quant": "yes"}, "bnb_4bit_use_double_quant"),
        ({**NF4, "load_in_8bit": True}, "exactly one"),
        ({"quant_method": "bitsandbytes"}, "exactly one"),
        ({**NF4, "llm_int8_skip_modules": ["(a+)+$", "lm_head"]}, "no module's name"),
        ({**NF4, "llm_int8_skip_modules": ["down_proj"]}, "head"),
        ({**NF4, "llm_int8_skip_modules": "lm_head"}, "no list"),
        ({"load_in_8bit": True, "llm_int8_threshold": -1}, "threshold"),
        ({"load_in_8bit": True, "llm_int8_has_fp16_weight": True}, "16-bit"),
    ],
)
def test_settings_that_are_wrong_or_unknown_are_refused(
    settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        read_prequantized({"quantization_config": settings})
    assert caught.value.parameter == "quantization_config"


def test_the_first_settings_did_not_name_their_method() -> None:
    form = read_prequantized({"quantization_config": {"load_in_8bit": True}})
    assert form is not None
    assert (form.method, form.threshold, form.skipped) == ("int8", 6.0, None)
    assert read_prequantized({"quantization_config": {"quant_method": "gptq"}}) is None
    assert read_prequantized({}) is None


def edit(name: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Any:
    """Change or drop (None) one tensor, in whichever shard it lies."""

    def damage(path: Path) -> None:
        for file in path.glob("*.safetensors"):
            tensors = load_file(file)
            if name not in tensors:
                continue
            changed = change(tensors.pop(name))
            if changed is not None:
                tensors[name] = changed.contiguous()
            save_file(tensors, file, metadata={"format": "pt"})

    return damage


def restate(**values: Any) -> Any:
    """Change the description of one weight."""

    def change(tensor: torch.Tensor) -> torch.Tensor:
        state = json.loads(bytes(tensor.tolist())) | values
        text = json.dumps({key: value for key, value in state.items() if value is not None})
        return torch.tensor(list(text.encode()), dtype=torch.uint8)

    return edit(f"{UP}.quant_state.bitsandbytes__nf4", change)


def configure(**values: Any) -> Any:
    """Change quantization_config; a single None drops it."""

    def damage(path: Path) -> None:
        config = json.loads((path / "config.json").read_text())
        config["quantization_config"] |= values
        if values == {"dropped": True}:
            del config["quantization_config"]
        (path / "config.json").write_text(json.dumps(config))

    return damage


UP = f"{LAYER}.mlp.up_proj.weight"
DAMAGES: list[tuple[str, Any, str, str]] = [
    ("nf4-double", edit(f"{UP}.absmax", lambda t: None), f"{UP}.absmax", "missing"),
    ("nf4-double", edit(f"{UP}.quant_map", lambda t: None), f"{UP}.quant_map", "missing"),
    ("nf4-double", edit(f"{UP}.nested_absmax", lambda t: None), f"{UP}.nested_absmax", "missing"),
    ("nf4-double", edit(f"{UP}.absmax", lambda t: t[:-1]), f"{UP}.absmax", "191 scales"),
    ("nf4-double", edit(f"{UP}.absmax", lambda t: t.float()), f"{UP}.absmax", "uint8"),
    (
        "nf4-double", edit(f"{UP}.nested_absmax", lambda t: t.repeat(3)), f"{UP}.nested_absmax",
        "3 scales",
    ),
    ("nf4-double", edit(f"{UP}.nested_absmax", lambda t: t * float("nan")), "nested_absmax", "NaN"),
    ("nf4-double", edit(UP, lambda t: t[:-1]), UP, "shape"),
    ("nf4-double", restate(shape=[64, 192]), UP, "is of a weight"),
    ("nf4-double", restate(quant_type="fp4"), UP, "fp4"),
    ("nf4-double", restate(blocksize=63), UP, "blocksize"),
    ("nf4-double", restate(blocksize=128), f"{UP}.absmax", "192 scales"),
    ("nf4-double", restate(dtype="float64"), UP, "float64"),
    ("nf4-double", restate(nested_offset=None), UP, "nested_offset"),
    (
        "nf4-double",
        edit(f"{UP}.quant_state.bitsandbytes__nf4", lambda t: t[:-3]), UP, "not valid",
    ),
    ("nf4-double", configure(bnb_4bit_use_double_quant=False), "nested", "no quantization_config"),
    ("nf4-double", configure(dropped=True), "", ""),
    ("nf4-double", configure(llm_int8_skip_modules=["lm_head", "up_proj"]), "up_proj", ""),
    ("nf4", configure(bnb_4bit_use_double_quant=True), "absmax", "uint8"),
    ("nf4", configure(llm_int8_skip_modules=None), "", ""),
    ("int8", configure(dropped=True), "", ""),
    ("int8", edit(f"{LAYER}.mlp.up_proj.SCB", lambda t: None), "up_proj.SCB", "missing"),
    ("int8", edit(f"{LAYER}.mlp.up_proj.SCB", lambda t: t[None]), "up_proj.SCB", "shape"),
    ("int8", edit(UP, lambda t: t.float()), UP, "int8"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("form", "damage", "tensor", "said"), DAMAGES, ids=[str(at) for at in range(len(DAMAGES))]
)
def test_damage_is_found_by_name_before_anything_is_returned(
    saved: dict[str, Path], tmp_path: Path, form: str, damage: Any, tensor: str, said: str
) -> None:
    """L3: a part that is missing, of another shape or type, or that contradicts the others."""
    path = tmp_path / "copy"
    shutil.copytree(saved[form], path)
    damage(path)
    with pytest.raises(WeightsError) as caught:
        load(path)
    message = str(caught.value)
    assert tensor in message
    assert said in message
    assert ".safetensors" in message
    assert caught.value.hint


def test_an_unquantized_checkpoint_that_claims_to_be_packed_is_refused(
    plain: Path, tmp_path: Path
) -> None:
    path = tmp_path / "copy"
    shutil.copytree(plain, path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"quantization_config": NF4}))
    with pytest.raises(WeightsError, match="shape"):
        load(path)


def test_only_safetensors_of_them_are_read(saved: dict[str, Path], tmp_path: Path) -> None:
    shutil.copyfile(saved["int8"] / "config.json", tmp_path / "config.json")
    torch.save(tensors_of(saved["int8"]), tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="only safetensors"):
        load(tmp_path)
