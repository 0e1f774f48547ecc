"""Conversion into safetensors: the same numbers, half the size, whole or not there at all."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aquila2_runtime.checkpoint import convert as module
from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.convert import convert_checkpoint
from aquila2_runtime.checkpoint.shard_writer import split
from aquila2_runtime.checkpoint.verify import verify_weights
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.errors import ConfigError, InvalidLoadOptionError, WeightsError
from tests.fixtures_checkpoint import (
    LAYOUTS,
    make_checkpoint,
    make_config,
    make_tensors,
    write_weights,
)

CPU = torch.device("cpu")


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in path.glob("*.safetensors"):
        found |= load_file(file)
    return found


def leftovers(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if file.name.endswith(".partial")]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_tensor_is_the_sources_in_the_new_type(
    tmp_path: Path, layout: str, dtype: torch.dtype
) -> None:
    source = make_checkpoint(tmp_path / "source", layout=layout)
    name = str(dtype).removeprefix("torch.")
    made = convert_checkpoint(source, tmp_path / "new", dtype=name)
    wanted = make_tensors(make_config())
    found = tensors_of(made.path)
    assert set(found) == set(wanted)
    assert all(torch.equal(found[tensor], wanted[tensor].to(dtype)) for tensor in wanted)
    assert made.num_bytes * (1 if dtype == torch.float32 else 2) == made.source_bytes
    config = read_config(made.path)
    assert config.torch_dtype == name
    verify_weights(made.path, config, allow_pickle=False)
    assert not leftovers(tmp_path)


def test_the_converted_checkpoint_loads_as_the_original_does(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", layout="bin-sharded", num_key_value_heads=2)
    made = convert_checkpoint(source, tmp_path / "new")
    assert made.dtype == "float16"  # config.json's own
    first, second = (
        load_weights(path, read_config(path), dtype=torch.float16, device=CPU)
        for path in (source, made.path)
    )
    ids = torch.arange(1, 33)[None]
    with torch.inference_mode():
        assert torch.equal(first(ids).logits, second(ids).logits)


def test_code_stays_behind_and_everything_else_comes_along(tmp_path: Path) -> None:
    """L1: what the copy holds can run nothing."""
    source = make_checkpoint(tmp_path / "source", layout="bin")
    for name in ("modeling_aquila.py", "predict.py", "training_args.bin", "optimizer.pt", "x.pkl"):
        (source / name).write_bytes(b"raise SystemExit")
    for name in ("LICENSE", "README.md", "NOTICE.txt"):
        (source / name).write_bytes(name.encode())
    (source / "adapter_config.json").write_text("{}")
    before = {file.name: file.read_bytes() for file in source.iterdir()}
    path = convert_checkpoint(source, tmp_path / "new").path
    assert {file.name for file in path.iterdir()} == {
        "config.json", "generation_config.json", "vocab.json", "merges.txt", "added_tokens.json",
        "special_tokens_map.json", "tokenizer_config.json", "LICENSE", "README.md", "NOTICE.txt",
        "model.safetensors",
    }  # fmt: skip
    config = json.loads((path / "config.json").read_text())
    assert "auto_map" not in config
    assert config["torch_dtype"] == "float16"
    for file in path.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            assert file.read_bytes() == before[file.name]
    assert {file.name: file.read_bytes() for file in source.iterdir()} == before


def test_shards_are_bounded_and_listed_in_an_index(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", layout="bin-sharded")
    limit = 12_000
    made = convert_checkpoint(source, tmp_path / "new", shard_bytes=limit)
    assert len(made.files) > 3
    for name in made.files:
        held = load_file(made.path / name)
        sizes = [tensor.numel() * 2 for tensor in held.values()]
        assert sum(sizes) <= limit or len(sizes) == 1
    index = json.loads((made.path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == made.num_bytes
    assert set(index["weight_map"].values()) == set(made.files)


def test_groups_keep_their_order_and_their_limit() -> None:
    sizes = {"a": 4, "b": 4, "c": 9, "d": 1, "e": 20, "f": 1}
    assert split(sizes, 10) == [["a", "b"], ["c", "d"], ["e"], ["f"]]
    assert split({}, 10) == []


def test_auto_is_sixteen_bits_even_where_the_file_says_thirty_two(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", torch_dtype="float32")
    assert convert_checkpoint(source, tmp_path / "new").dtype == "bfloat16"


def test_what_exists_is_never_overwritten(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("empty", "file", "link", "source"):
        with pytest.raises(InvalidLoadOptionError, match="exists") as caught:
            convert_checkpoint(source, tmp_path / name)
        assert caught.value.parameter == "destination"
    assert (tmp_path / "file").read_text() == "mine"
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_number_the_new_type_cannot_hold_stops_it_and_leaves_nothing(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", layout="bin-sharded")
    tensors = make_tensors(make_config())
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name][3, 5] = 1e6
    write_weights(source, tensors, "bin-sharded")
    with pytest.raises(WeightsError, match="bfloat16") as caught:
        convert_checkpoint(source, tmp_path / "new", dtype="float16")
    assert caught.value.parameter == name
    assert sorted(file.name for file in tmp_path.iterdir()) == ["source"]
    assert convert_checkpoint(source, tmp_path / "new", dtype="bfloat16").dtype == "bfloat16"


def test_damaged_sources_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", layout="bin-sharded")
    (source / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(WeightsError, match="00002"):
        convert_checkpoint(source, tmp_path / "new")
    with pytest.raises(WeightsError, match="allow_pickle"):
        convert_checkpoint(source, tmp_path / "new", allow_pickle=False)
    (source / "config.json").write_text("{}")
    with pytest.raises(ConfigError):
        convert_checkpoint(source, tmp_path / "new")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["source"]


def test_a_file_written_wrongly_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison reads the file, not what was meant to be in it."""
    source = make_checkpoint(tmp_path / "source")
    real = module.write_shard

    def failing_disk(path: Path, *rest: Any) -> dict[str, bytes]:
        digests = real(path, *rest)
        body = bytearray(path.read_bytes())
        body[-3] ^= 1
        path.write_bytes(body)
        return digests

    monkeypatch.setattr(module, "write_shard", failing_disk)
    with pytest.raises(WeightsError, match="not written as it was read"):
        convert_checkpoint(source, tmp_path / "new")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["source"]


def test_a_disk_too_small_is_said_with_the_bytes_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_checkpoint(tmp_path / "source")
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(InvalidLoadOptionError, match=r"\d+ bytes .* 1000 ") as caught:
        convert_checkpoint(source, tmp_path / "new")
    assert caught.value.parameter == "destination"


@pytest.mark.parametrize("name", ["file/new", "x" * 300, "source/new", "source"])
def test_a_place_that_cannot_be_is_refused_by_name(tmp_path: Path, name: str) -> None:
    source = make_checkpoint(tmp_path / "source")
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidLoadOptionError) as caught:
        convert_checkpoint(source, tmp_path / name)
    assert caught.value.parameter == "destination"
    assert caught.value.hint
    assert not leftovers(tmp_path)


def test_a_place_is_in_the_source_by_where_it_is_not_by_how_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_checkpoint(tmp_path / "source")
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(InvalidLoadOptionError, match="lies in the source"):
        convert_checkpoint(source, tmp_path / "link" / "new")
    monkeypatch.chdir(source)  # as by: cd source; aquila2 convert . ../new
    assert convert_checkpoint(source, Path("../new")).files
    assert (tmp_path / "new" / "config.json").is_file()
    assert not leftovers(source)


def test_a_disk_that_becomes_full_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> dict[str, bytes]:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(module, "write_shard", full)
    with pytest.raises(InvalidLoadOptionError, match="became full") as caught:
        convert_checkpoint(make_checkpoint(tmp_path / "source"), tmp_path / "new")
    assert caught.value.parameter == "destination"
    assert not leftovers(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from aquila2_runtime.checkpoint.convert import convert_checkpoint
def die(stage, done, total):
    if done:
        os.kill(os.getpid(), signal.SIGKILL)
convert_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]), progress=die)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals and locks of Unix")
def test_what_a_killed_conversion_leaves_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    source, target = make_checkpoint(tmp_path / "source", layout="bin-sharded"), tmp_path / "new"
    done = subprocess.run([sys.executable, "-c", KILLED, str(source), str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(leftovers(tmp_path)) == 1
    assert not target.exists()
    with module.appearing(target) as living:
        assert leftovers(tmp_path) == [living.name]
        with pytest.raises(InvalidLoadOptionError, match="meanwhile"):
            convert_checkpoint(source, target, progress=lambda *_: target.mkdir(exist_ok=True))
        # That of a process that lives is left alone.
        assert living.is_dir()
        target.rmdir()
    target.rmdir()
    convert_checkpoint(source, target)
    verify_weights(target, read_config(target), allow_pickle=False)
    assert not leftovers(tmp_path)


def test_progress_ends_at_all_of_it_and_its_error_stops_the_conversion(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", layout="bin-sharded")
    calls: list[tuple[str, int, int | None]] = []
    made = convert_checkpoint(source, tmp_path / "new", progress=lambda *call: calls.append(call))
    assert calls[0] == ("converting", 0, made.source_bytes)
    assert calls[-1] == ("converting", made.source_bytes, made.source_bytes)

    class Enough(Exception):
        pass

    def stop(stage: str, done: int, total: int | None) -> None:
        if done:
            raise Enough

    with pytest.raises(Enough):
        convert_checkpoint(source, tmp_path / "other", progress=stop)
    assert not (tmp_path / "other").exists()
    assert not leftovers(tmp_path)


MEASURE = """
import resource, sys
from pathlib import Path
import torch, safetensors.torch
from aquila2_runtime.checkpoint.convert import convert_checkpoint
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_stays_at_about_one_shard(tmp_path: Path, root: Path) -> None:
    """Six shards of some 38 MB in 32 bits; the pages of a mapped shard would count here as well."""
    source = make_checkpoint(
        tmp_path / "source",
        layout="bin",
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=16,
        vocab_size=1024,
    )
    tensors = torch.load(source / "pytorch_model.bin", weights_only=True)
    (source / "pytorch_model.bin").unlink()
    files = write_weights(source, tensors, "bin-sharded", shards=6)
    largest = max(file.stat().st_size for file in files)
    assert sum(file.stat().st_size for file in files) > 5 * largest
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(source), str(tmp_path / "new")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    assert int(done.stdout) * 1024 < 1.6 * largest
