from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.pickles import check_torch_version
from aquila2_runtime.checkpoint.verify import WeightFiles, verify_weights
from aquila2_runtime.errors import WeightsError
from tests.fixtures_checkpoint import (
    LAYOUTS,
    make_checkpoint,
    make_config,
    make_tensors,
    write_weights,
)

INDEX = "model.safetensors.index.json"
Q = "model.layers.0.self_attn.q_proj.weight"


def verify(path: Path, *, allow_pickle: bool = True) -> WeightFiles:
    return verify_weights(path, read_config(path), allow_pickle=allow_pickle)


def refused(path: Path, *names: str) -> WeightsError:
    """Verification fails, and its text names each of ``names``."""
    with pytest.raises(WeightsError) as caught:
        verify(path)
    for name in names:
        assert name in str(caught.value)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model", tokenizer=None)


@pytest.fixture
def single(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model", layout="safetensors", tokenizer=None)


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model", layout="bin-sharded", tokenizer=None)


def edit_index(path: Path, change: Callable[[dict[str, str]], object], name: str = INDEX) -> None:
    index = json.loads((path / name).read_text("utf-8"))
    change(index["weight_map"])
    (path / name).write_text(json.dumps(index), "utf-8")


def rewrite(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    change(tensors)
    save_file(tensors, file)


def write_header(file: Path, header: dict[str, Any] | str, data: bytes) -> None:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kv_heads", [None, 2])
def test_a_sound_checkpoint_passes_in_every_layout(
    tmp_path: Path, layout: str, kv_heads: int | None
) -> None:
    path = make_checkpoint(tmp_path, layout=layout, num_key_value_heads=kv_heads)
    files = verify(path)
    assert files.format == layout.split("-", maxsplit=1)[0]
    assert set(files.tensors) == set(make_tensors(read_config(path).raw))
    assert files.num_bytes == read_config(path).num_parameters * 4
    assert len(files.files) == (3 if layout.endswith("sharded") else 1)


def test_safetensors_is_taken_where_both_formats_are_there(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, layout="bin-sharded")
    write_weights(path, make_tensors(make_config()), "safetensors-sharded")
    assert verify(path, allow_pickle=False).format == "safetensors"


def test_pickles_are_refused_with_advice_when_they_are_not_allowed(pickled: Path) -> None:
    """L2: allow_pickle=False refuses .bin weights."""
    with pytest.raises(WeightsError, match="safetensors") as caught:
        verify(pickled, allow_pickle=False)
    assert caught.value.parameter == "allow_pickle"


@pytest.mark.parametrize("version", ["2.6.0", "2.9.1+cu128", "1.13.1", "weird"])
def test_pickles_need_a_torch_whose_restricted_unpickler_is_sound(version: str) -> None:
    """L2: torch 2.10 or newer."""
    with pytest.raises(WeightsError, match=r"2\.10"):
        check_torch_version(version)


@pytest.mark.parametrize("version", ["2.10.0", "2.11.0+cu130", "2.13.0+cpu", "3.0.0"])
def test_a_newer_torch_may_read_pickles(version: str) -> None:
    check_torch_version(version)


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("archive", [True, False])
def test_a_malicious_pickle_is_refused_and_never_runs(
    pickled: Path, tmp_path: Path, archive: bool
) -> None:
    """L2: a malicious pickle never executes, in torch's archive or bare."""
    target = tmp_path / "executed"
    shard = pickled / "pytorch_model-00002-of-00003.bin"
    if archive:
        torch.save({Q: _Bomb(target)}, shard)
    else:
        shard.write_bytes(pickle.dumps({Q: _Bomb(target)}, protocol=2))
    error = refused(pickled, shard.name)
    assert "weights_only" not in str(error)
    assert not target.exists()
    # The same file does its work under an ordinary unpickler, so the test can fail.
    if not archive:
        pickle.loads(shard.read_bytes())
        assert target.exists()


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(2)],
        {"a": "text"},
        {1: torch.zeros(2)},
        {Q: torch.zeros(2, 2).to_sparse()},
        {Q: torch.zeros(2, dtype=torch.complex64)},
        {Q: torch.empty(2, device="meta")},
    ],
    ids=["list", "text", "number", "sparse", "complex", "meta"],
)
def test_a_pickle_of_anything_but_dense_tensors_is_refused(pickled: Path, content: Any) -> None:
    """L2: dense tensors by name, and nothing else."""
    shard = pickled / "pytorch_model-00001-of-00003.bin"
    torch.save(content, shard)
    refused(pickled, shard.name)


def test_pickles_from_before_archives_are_read_too(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, layout="bin")
    file = path / "pytorch_model.bin"
    torch.save(torch.load(file, weights_only=True), file, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(file)
    assert verify(path).format == "bin"


def test_saved_rotary_buffers_are_known_and_ignored(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, layout="bin", tokenizer=None)
    tensors = make_tensors(make_config())
    name = "model.layers.1.self_attn.rotary_emb.inv_freq"
    write_weights(path, tensors | {name: torch.ones(4)}, "bin-sharded")
    (path / "pytorch_model.bin").unlink()
    assert verify(path).ignored == (name,)


def _truncate(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])


@pytest.mark.parametrize("keep", [0, 4, 8, 200, -1, -1000])
@pytest.mark.parametrize("layout", ["safetensors-sharded", "bin-sharded"])
def test_a_truncated_or_empty_shard_is_named(tmp_path: Path, layout: str, keep: int) -> None:
    """L3: truncated and empty files."""
    path = make_checkpoint(tmp_path, layout=layout, tokenizer=None)
    shard = sorted(path.glob("*-00002-of-*"))[0]
    _truncate(shard, keep)
    refused(path, shard.name)


def test_bytes_after_the_last_tensor_are_refused(single: Path) -> None:
    """L3: oversized files."""
    with (single / "model.safetensors").open("ab") as file:
        file.write(b"\0" * 8)
    refused(single, "model.safetensors", "too long")


@pytest.mark.parametrize("length", [2**63, 200_000_000, 10_000_000])
def test_an_oversized_header_is_refused_before_it_is_read(single: Path, length: int) -> None:
    """L3: oversized header."""
    (single / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
    refused(single, "model.safetensors", "header")


def entry(
    begin: int, end: int, shape: list[Any] | None = None, dtype: str = "F32"
) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape or [(end - begin) // 4], "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"a": entry(0, 16), "b": entry(8, 24)}, "overlaps"),
        ({"a": entry(0, 16), "b": entry(0, 16)}, "overlaps"),
        ({"a": entry(0, 8), "b": entry(16, 24)}, "hole"),
        ({"a": entry(8, 24)}, "hole"),
        ({"a": entry(0, 4096)}, "truncated"),
        ({"a": {**entry(0, 24), "data_offsets": [24, 0]}}, "offsets"),
        ({"a": {**entry(0, 24), "data_offsets": [-4, 20]}}, "offsets"),
        ({"a": {**entry(0, 24), "data_offsets": [0, 24, 48]}}, "offsets"),
        ({"a": entry(0, 24, [7])}, "needs"),
        ({"a": entry(0, 24, [2**40, 2**40])}, "needs"),
        ({"a": entry(0, 24, [-6])}, "shape"),
        ({"a": entry(0, 24, [True])}, "shape"),
        ({"a": entry(0, 24, [1] * 99)}, "shape"),
        ({"a": entry(0, 24, dtype="F7")}, "type"),
        ({"a": {**entry(0, 24), "dtype": ["F32"]}}, "type"),
        ({"a": {**entry(0, 24), "more": 1}}, "described"),
        ({"a": [0, 24]}, "described"),
        ({"a": entry(0, 24), "__metadata__": 5}, "texts"),
        ({"a": entry(0, 24), "__metadata__": {"format": {"pt": 1}}}, "texts"),
        ('{"a": 1, "a": 2}', "duplicate"),
        ('{"a": ' * 5000, "nested"),
        ("[]", "object"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(
    single: Path, header: dict[str, Any] | str, reason: str
) -> None:
    """L3: overlapping, past-end, reversed, mis-shaped and doubled tensors."""
    write_header(single / "model.safetensors", header, b"\0" * 24)
    refused(single, "model.safetensors", reason)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    """L3: missing shard."""
    (sharded / "model-00002-of-00003.safetensors").unlink()
    refused(sharded, "model-00002-of-00003.safetensors", "missing")


def test_a_shard_that_no_index_lists_is_named(sharded: Path) -> None:
    """L3: extra shard."""
    shutil.copy(
        sharded / "model-00001-of-00003.safetensors", sharded / "model-00004-of-00004.safetensors"
    )
    refused(sharded, "model-00004-of-00004.safetensors", "not listed")


def test_shards_without_their_index_are_refused(sharded: Path) -> None:
    """L3: the index is missing."""
    (sharded / INDEX).unlink()
    refused(sharded, "model")


def test_a_wrong_count_of_shards_is_refused(sharded: Path) -> None:
    """L3: wrong count: the names say three, the index lists two."""
    last = "model-00003-of-00003.safetensors"
    (sharded / last).unlink()
    edit_index(
        sharded, lambda placed: [placed.pop(n) for n, f in list(placed.items()) if f == last]
    )
    refused(sharded, "3 shards")


def test_a_missing_tensor_is_named_with_its_shard(sharded: Path) -> None:
    """L4: every parameter must be there."""
    shard = sharded / "model-00001-of-00003.safetensors"
    rewrite(shard, lambda tensors: tensors.pop(Q))
    refused(sharded, Q, shard.name, "missing")
    edit_index(sharded, lambda placed: placed.pop(Q))
    refused(sharded, Q, "missing")


def test_an_unexpected_tensor_is_named(single: Path) -> None:
    """L4: unexpected tensors are listed."""
    rewrite(
        single / "model.safetensors", lambda tensors: tensors.update({"surprise": torch.ones(2)})
    )
    refused(single, "surprise", "model.safetensors")


@pytest.mark.parametrize("name", ["model.layers.2.mlp.up_proj.weight", Q.replace("weight", "bias")])
def test_a_layer_or_bias_too_many_is_unexpected(single: Path, name: str) -> None:
    """L4: a tensor of a larger or other model."""
    rewrite(single / "model.safetensors", lambda tensors: tensors.update({name: torch.ones(2)}))
    refused(single, name)


def test_a_tensor_in_two_shards_is_named(sharded: Path) -> None:
    """L3: duplicate tensor."""
    tensor = load_file(sharded / "model-00001-of-00003.safetensors")[Q]
    last = sharded / "model-00003-of-00003.safetensors"
    rewrite(last, lambda tensors: tensors.update({Q: tensor}))
    refused(sharded, Q, last.name)


def test_a_tensor_in_another_shard_than_the_index_says_is_named(sharded: Path) -> None:
    """L3: index and shards must agree."""
    edit_index(sharded, lambda placed: placed.update({Q: "model-00002-of-00003.safetensors"}))
    refused(sharded, Q)


def test_a_tensor_that_only_the_index_knows_is_named(sharded: Path) -> None:
    """L3: the index lists more than the shards hold."""
    name = "model.layers.9.mlp.up_proj.weight"
    edit_index(sharded, lambda placed: placed.update({name: "model-00002-of-00003.safetensors"}))
    refused(sharded, name, INDEX.split(".", maxsplit=1)[0])


def test_a_mis_shaped_tensor_is_named_with_both_shapes(single: Path) -> None:
    """L3: wrong shape; the embedding's rows are the vocabulary."""
    name = "model.embed_tokens.weight"
    rewrite(
        single / "model.safetensors", lambda tensors: tensors.update({name: torch.ones(312, 32)})
    )
    refused(single, name, "[312, 32]", "[320, 32]")


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float64, torch.float8_e4m3fn])
@pytest.mark.parametrize("layout", ["safetensors", "bin"])
def test_a_tensor_of_a_wrong_type_is_named(tmp_path: Path, layout: str, dtype: torch.dtype) -> None:
    """L3: wrong dtype."""
    path = make_checkpoint(tmp_path, layout=layout, tokenizer=None)
    tensors = make_tensors(make_config())
    write_weights(path, tensors | {Q: tensors[Q].to(dtype)}, layout)
    refused(path, Q, str(dtype).removeprefix("torch."))


@pytest.mark.parametrize(
    "name",
    [
        "../model-00001-of-00003.safetensors",
        "../../x.safetensors",
        "/etc/passwd",
        "/dev/zero",
        "a/b.safetensors",
        "a\\b.safetensors",
        "x\0y.safetensors",
        "C:x.safetensors",
        "C:\\x.safetensors",
        "https://example.com/x.safetensors",
        "file:x.safetensors",
        ".hidden.safetensors",
        "..",
        "",
        "con",
        "x" * 300 + ".safetensors",
        "x\n.safetensors",
        7,
        None,
        ["model.safetensors"],
    ],
)
def test_an_index_can_only_name_files_of_its_own_directory(sharded: Path, name: Any) -> None:
    """L6: weight_map values must be bare file names."""
    edit_index(sharded, lambda placed: placed.update({Q: name}))
    refused(sharded, Q, "bare file name")


def test_a_shard_that_is_no_regular_file_is_refused_and_never_opened(sharded: Path) -> None:
    """L6: a device or pipe under a shard's name is refused, not waited for."""
    shard = sharded / "model-00002-of-00003.safetensors"
    shard.unlink()
    os.mkfifo(shard)
    refused(sharded, shard.name, "regular")
    shard.unlink()
    shard.symlink_to("/dev/zero")
    refused(sharded, shard.name, "regular")


def test_a_shard_that_is_a_link_to_a_file_is_read_as_hub_caches_have_them(
    sharded: Path, tmp_path: Path
) -> None:
    shard = sharded / "model-00002-of-00003.safetensors"
    shutil.move(shard, tmp_path / "blob")
    shard.symlink_to(tmp_path / "blob")
    assert len(verify(sharded).files) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": []}',
        '{"weight_map": {"a": 1, "a": 2}}',
        "[1]",
    ],
)
def test_a_malformed_index_is_refused(sharded: Path, text: str) -> None:
    """L3: the index is read by the strict reader."""
    (sharded / INDEX).write_text(text, "utf-8")
    refused(sharded)


def test_a_pickle_shard_in_a_safetensors_index_is_refused(sharded: Path) -> None:
    """L2: a safetensors index cannot bring in a pickle."""
    edit_index(sharded, lambda placed: placed.update({Q: "evil.bin"}))
    refused(sharded, "evil.bin")


def test_a_missing_head_is_allowed_only_where_the_embedding_is_tied(tmp_path: Path) -> None:
    """L4: tied weights by rule."""
    tied = make_checkpoint(tmp_path / "tied", tie_word_embeddings=True)
    assert "lm_head.weight" not in verify(tied).tensors
    config = json.loads((tied / "config.json").read_text("utf-8")) | {"tie_word_embeddings": False}
    (tied / "config.json").write_text(json.dumps(config), "utf-8")
    refused(tied, "lm_head.weight")


def test_a_directory_without_weights_says_so(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, layout="safetensors")
    (path / "model.safetensors").unlink()
    refused(path, "no weights")


def test_verification_changes_nothing(sharded: Path) -> None:
    """L12: only reading."""
    before = {file.name: file.read_bytes() for file in sharded.iterdir()}
    verify(sharded)
    assert {file.name: file.read_bytes() for file in sharded.iterdir()} == before
