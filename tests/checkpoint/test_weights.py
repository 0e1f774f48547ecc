from __future__ import annotations

import gc
import importlib.util
import json
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.filling import memory_errors
from aquila2_runtime.checkpoint.register import AquilaForCausalLM
from aquila2_runtime.checkpoint.weights import _break_cycles, load_weights
from aquila2_runtime.engine.linear import take_linear
from aquila2_runtime.errors import InvalidLoadOptionError, MissingDependencyError, WeightsError
from tests.fixtures_checkpoint import (
    LAYOUTS,
    make_checkpoint,
    make_config,
    make_tensors,
    write_weights,
)

CPU = torch.device("cpu")
IDS = torch.arange(1, 33)[None]


def load(path: Path, dtype: torch.dtype = torch.float32, **options: Any) -> AquilaForCausalLM:
    return load_weights(path, read_config(path), dtype=dtype, device=CPU, **options)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model(IDS).logits[0]
    return result


def alive() -> int:
    gc.collect()
    return sum(type(item) is AquilaForCausalLM for item in gc.get_objects())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_parameter_holds_its_files_values_in_every_layout(
    tmp_path: Path, layout: str
) -> None:
    """L4: every model parameter is filled exactly once."""
    path = make_checkpoint(tmp_path, layout=layout, num_key_value_heads=2)
    model = load(path)
    parameters = dict(model.named_parameters())
    expected = make_tensors(read_config(path).raw)
    assert set(parameters) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(parameters[name], tensor), name
    assert not model.training
    assert not any(parameter.requires_grad for parameter in parameters.values())


def test_an_fp32_file_with_an_fp16_config_loads_in_the_type_asked_for(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, layout="bin-sharded")
    assert read_config(path).torch_dtype == "float16"
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        model = load(path, dtype)
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}
        # The angles stay exact whatever the weights are.
        assert model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_the_layouts_of_one_checkpoint_compute_the_same(tmp_path: Path) -> None:
    first, *others = (
        logits(load(make_checkpoint(tmp_path / layout, layout=layout))) for layout in LAYOUTS
    )
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("layout", ["safetensors-sharded", "bin-sharded"])
def test_a_value_that_is_not_finite_is_found_and_its_tensor_named(
    tmp_path: Path, layout: str, value: float
) -> None:
    """L5: NaN and infinite weights are found; nothing half-loaded stays (C14)."""
    path = make_checkpoint(tmp_path, layout=layout)
    tensors = make_tensors(make_config())
    name = "model.layers.1.mlp.down_proj.weight"
    tensors[name][7, 11] = value
    write_weights(path, tensors, layout)
    before = alive()
    with pytest.raises(WeightsError, match=name) as caught:
        load(path)
    assert caught.value.parameter == name
    assert alive() == before
    assert caught.value.__context__ is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("at", [0, 1, 17, 63, 1535])
def test_one_value_that_is_not_finite_is_found_in_every_type_and_place(
    tmp_path: Path, dtype: torch.dtype, at: int
) -> None:
    """L5: the sweep misses no element."""
    path = make_checkpoint(tmp_path, layout="safetensors", dtype=dtype, tokenizer=None)
    tensors = make_tensors(make_config(), dtype=dtype)
    name = "model.layers.0.mlp.up_proj.weight"
    for value in (float("nan"), float("inf")):
        tensors[name].view(-1)[at] = value
        write_weights(path, tensors, "safetensors")
        with pytest.raises(WeightsError, match=name):
            load(path, dtype)


def test_a_value_too_large_for_half_precision_is_an_error_and_not_an_infinity(
    tmp_path: Path,
) -> None:
    """L11: fp16 overflow is not silent."""
    path = make_checkpoint(tmp_path, layout="safetensors")
    tensors = make_tensors(make_config())
    tensors["model.norm.weight"][3] = 1e5
    write_weights(path, tensors, "safetensors")
    with pytest.raises(WeightsError, match=r"model\.norm\.weight") as caught:
        load(path, torch.float16)
    assert "bfloat16" in str(caught.value)
    assert load(path, torch.bfloat16) is not None


def test_a_failed_load_leaves_a_second_attempt_unharmed(tmp_path: Path) -> None:
    """C14: a second attempt works."""
    path = make_checkpoint(tmp_path, layout="safetensors")
    sound = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(sound[:-4])
    with pytest.raises(WeightsError):
        load(path)
    (path / "model.safetensors").write_bytes(sound)
    assert torch.isfinite(logits(load(path))).all()


def test_two_loads_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """C14: two loads at once."""
    paths = [make_checkpoint(tmp_path / str(seed), seed=seed) for seed in range(4)]
    alone = [logits(load(path)) for path in paths]
    found: dict[int, torch.Tensor] = {}
    threads = [
        threading.Thread(target=lambda n=n, p=p: found.__setitem__(n, logits(load(p))))
        for n, p in enumerate(paths)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(torch.equal(found[number], expected) for number, expected in enumerate(alone))
    assert torch.get_default_dtype() == torch.float32


BOOBY_TRAP = "import pathlib\npathlib.Path(__file__).with_name('executed').write_text('yes')\n"


def test_a_booby_trapped_directory_runs_nothing(tmp_path: Path) -> None:
    """L1: no code, adapter, path or setting from the directory has any effect. L9 likewise."""
    plain = logits(load(make_checkpoint(tmp_path / "plain", auto_map=None)))
    path = make_checkpoint(
        tmp_path / "trap",
        trust_remote_code=True,
        transformers_weights="other.safetensors",
        attn_implementation="someone/kernel",
        fusion_config={"patch": True},
        quantization_config=None,
    )
    for name in ("modeling_aquila", "configuration_aquila", "tokenization_aquila", "__init__"):
        (path / f"{name}.py").write_text(BOOBY_TRAP, "utf-8")
    (path / "custom_generate").mkdir()
    (path / "custom_generate" / "generate.py").write_text(BOOBY_TRAP, "utf-8")
    (path / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "someone/else", "peft_type": "LORA"}), "utf-8"
    )
    (path / "generation_config.json").write_text(
        '{"custom_generate": "x", "max_length": 9}', "utf-8"
    )
    (path / "chat_template.jinja").write_text("{{ 7 * 7 }}", "utf-8")
    modules = set(sys.modules)
    model = load(path)
    assert torch.equal(logits(model), plain)
    assert model.generation_config.max_length != 9
    assert not list(tmp_path.rglob("executed"))
    assert not list(tmp_path.rglob("__pycache__"))
    assert not [name for name in set(sys.modules) - modules if "aquila" in name and "2" not in name]


def test_the_package_never_trusts_remote_code(root: Path) -> None:
    """L1: the string occurs nowhere in the package."""
    forbidden = "trust_remote_code" + "=True"
    for package in ("aquila2_runtime", "langchain_aquila2", "llamaindex_aquila2"):
        for file in (root / package).rglob("*.py"):
            text = file.read_text("utf-8").replace(" ", "")
            assert forbidden not in text, file
            assert "weights_only" + "=False" not in text, file


def test_loading_changes_no_file_and_no_setting(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """L12: loading is read-only; transformers' bars and log level are as before; no output."""
    from transformers.utils import logging

    path = make_checkpoint(tmp_path)
    before = {file: file.read_bytes() for file in path.rglob("*")}
    for file in [path, *before]:
        file.chmod(0o555 if file.is_dir() else 0o444)
    level, state = logging.get_verbosity(), torch.random.get_rng_state()
    load(path)
    assert {file: file.read_bytes() for file in path.rglob("*")} == before
    assert logging.get_verbosity() == level
    assert logging.is_progress_bar_enabled()
    assert torch.equal(torch.random.get_rng_state(), state)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    path.chmod(0o755)


def test_a_loaded_model_no_longer_depends_on_its_files(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, layout="bin")
    model = load(path)
    before = logits(model)
    (path / "pytorch_model.bin").write_bytes(b"\0" * (path / "pytorch_model.bin").stat().st_size)
    assert torch.equal(logits(model), before)


def test_progress_is_told_from_nothing_to_all_by_shards(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path)
    calls: list[tuple[str, int, int | None]] = []
    load(path, progress=lambda *call: calls.append(call))
    total = read_config(path).num_parameters * 4
    assert calls[0] == ("loading", 0, total)
    assert calls[-1] == ("loading", total, total)
    assert len(calls) == 4
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)


def test_an_error_of_the_progress_callback_ends_the_load_as_itself(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def stop(stage: str, done: int, total: int | None) -> None:
        if done:
            raise Enough

    with pytest.raises(Enough):
        load(make_checkpoint(tmp_path), progress=stop)


def test_a_tied_head_shares_the_embedding(tmp_path: Path) -> None:
    """L4: tied weights by rule."""
    model = load(make_checkpoint(tmp_path, tie_word_embeddings=True))
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_a_stored_head_may_be_tied_only_if_it_is_the_embedding(tmp_path: Path) -> None:
    """L4: tied weights by rule."""
    path = make_checkpoint(tmp_path, layout="safetensors", tie_word_embeddings=True)
    tensors = make_tensors(read_config(path).raw)
    embedding = tensors["model.embed_tokens.weight"]
    write_weights(path, tensors | {"lm_head.weight": embedding.clone()}, "safetensors")
    assert load(path) is not None
    write_weights(path, tensors | {"lm_head.weight": embedding + 1}, "safetensors")
    with pytest.raises(WeightsError, match="ties"):
        load(path)


def test_quantization_without_bitsandbytes_names_the_extra(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path)
    with pytest.raises(InvalidLoadOptionError, match="nf4"):
        load(path, quantization="int3")
    if importlib.util.find_spec("bitsandbytes") is not None:
        model = load(path, torch.bfloat16, quantization="nf4")
        assert model.model.layers[0].mlp.up_proj.weight.dtype == torch.uint8
        assert model.lm_head.weight.dtype == torch.bfloat16
        return
    for name in ("nf4", "int8"):
        with pytest.raises(MissingDependencyError, match=r"aquila2\[nf4\]"):
            load(path, quantization=name)


def test_loaded_logits_are_those_of_llama_with_the_same_weights(tmp_path: Path) -> None:
    """R1: an independent reading of the files gives the same numbers, linear scaling included."""
    scaling = {"type": "linear", "factor": 4.0}
    path = make_checkpoint(tmp_path, rope_scaling=scaling, num_key_value_heads=2)
    config = transformers.LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0},
    )
    reference = transformers.LlamaForCausalLM(config).eval()
    reference.load_state_dict(make_tensors(read_config(path).raw))
    assert torch.allclose(logits(load(path)), logits(reference), atol=1e-6)


@pytest.mark.parametrize("quantization", [None, "nf4", "int8"])
@pytest.mark.parametrize("layout", ["safetensors", "bin"])
def test_a_loaded_model_does_not_change_with_its_files(
    tmp_path: Path, layout: str, quantization: str | None
) -> None:
    """A model that kept a mapping of its files, or a view of one, would follow them."""
    if quantization is not None:
        pytest.importorskip("bitsandbytes")
    path = make_checkpoint(tmp_path, layout=layout, dtype=torch.bfloat16)
    model = load(path, torch.bfloat16, quantization=quantization)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for file in (*path.glob("*.safetensors"), *path.glob("*.bin")):
        with file.open("r+b") as opened:
            opened.write(b"\x11" * file.stat().st_size)
    changed = [
        name for name, tensor in model.state_dict().items() if not torch.equal(before[name], tensor)
    ]
    assert changed == []


def cached(folder: Path, source: Path) -> Path:
    """The checkpoint as the hub client lays it out: names that are links to contents."""
    snapshot, blobs = folder / "snapshots" / "abc", folder / "blobs"
    for directory in (snapshot, blobs):
        directory.mkdir(parents=True)
    for number, file in enumerate(sorted(source.iterdir())):
        (blobs / str(number)).write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    return snapshot


@pytest.mark.parametrize("when", [0, 1, 2])
@pytest.mark.parametrize("how", ["link", "file", "gone"])
def test_a_link_that_is_exchanged_while_it_is_read_is_found(
    tmp_path: Path, when: int, how: str
) -> None:
    """H6: between the check and the reading, and while shards are read, by another process."""
    source = make_checkpoint(tmp_path / "source")
    other = make_checkpoint(tmp_path / "other", seed=7)
    path = cached(tmp_path / "cache", source)
    assert logits(load(path)) is not None
    victim = path / "model-00003-of-00003.safetensors"
    calls = 0

    def exchange(stage: str, done: int, total: int | None) -> None:
        nonlocal calls
        if stage == "loading":
            if calls == when:
                new = path / "new"
                if how == "gone":
                    victim.unlink()
                elif how == "link":
                    new.symlink_to(other / victim.name)
                    new.replace(victim)
                else:
                    new.write_bytes((other / victim.name).read_bytes())
                    new.replace(victim)
            calls += 1

    with pytest.raises(WeightsError, match=r"00003-of-00003.*(exchanged|cannot be opened)"):
        load(path, progress=exchange)
    assert calls > when


def test_no_room_is_taken_in_one_piece_before_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fusing freed of it could not be given back, and the cache was smaller by 3 GiB of 24."""
    asked: list[Any] = []
    monkeypatch.setattr(
        transformers.modeling_utils, "caching_allocator_warmup", lambda *args: asked.append(args)
    )
    path = make_checkpoint(tmp_path)
    load(path)
    assert not asked
    AquilaForCausalLM.from_pretrained(
        None, config=load(path).config, state_dict=load(path).state_dict(), device_map={"": CPU}
    )
    assert asked, "transformers warms up no longer, or by another name"


def test_a_full_device_is_told_apart_from_a_broken_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers goes on where packing a tensor fails, and does not say of what."""
    failed = {"num_ooms": 0}
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: dict(failed))
    places = [torch.device("cuda", 0), CPU]
    with pytest.raises(RuntimeError, match="issues") as caught, memory_errors(places):
        raise RuntimeError("We encountered some issues")
    assert not isinstance(caught.value, torch.OutOfMemoryError)
    with pytest.raises(torch.OutOfMemoryError, match="issues"), memory_errors(places):
        failed["num_ooms"] += 1
        raise RuntimeError("We encountered some issues")


def test_layers_that_accelerate_hooked_are_freed_as_they_are_taken(tmp_path: Path) -> None:
    """Over several GPUs every module got a forward of its own, which held it and its weights."""
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    model = load(make_checkpoint(tmp_path))
    for module in model.modules():
        add_hook_to_module(module, AlignDevicesHook(io_same_device=True))
    watched = [
        weakref.ref(layer.get_submodule(name).weight)
        for layer in model.model.layers
        for name in ("self_attn.q_proj", "self_attn.k_proj", "mlp.gate_proj", "mlp.up_proj")
    ]
    gc.collect()
    gc.disable()
    try:
        _break_cycles(model)
        assert torch.isfinite(logits(model)).all()
        for layer in model.model.layers:
            take_linear(layer.self_attn, "q_proj", "k_proj", "v_proj")
            take_linear(layer.mlp, "gate_proj", "up_proj")
        assert not [weight for weight in watched if weight() is not None]
    finally:
        gc.enable()


@pytest.mark.parametrize("quantization", [None, "nf4"])
def test_a_projection_that_is_taken_out_is_freed_at_once(
    tmp_path: Path, quantization: str | None
) -> None:
    """The engine lays weights out anew; both forms of all layers would not fit."""
    if quantization is not None:
        pytest.importorskip("bitsandbytes")
    model = load(make_checkpoint(tmp_path), torch.bfloat16, quantization=quantization)
    mlp = model.model.layers[0].mlp
    weight = weakref.ref(mlp.up_proj.weight)
    gc.collect()
    gc.disable()
    try:
        del mlp.up_proj
        assert weight() is None
    finally:
        gc.enable()
