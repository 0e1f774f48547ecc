"""Reading safetensors by position: what becomes of files that change, and of numbers not finite."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from aquila2_runtime.checkpoint import int8_packing, nf4_packing, sources
from aquila2_runtime.checkpoint import stored as stored_module
from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.headers import read_safetensors_header
from aquila2_runtime.checkpoint.stored import StoredFile, StoredTensor, read_tensors
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.errors import WeightsError
from tests.fixtures_checkpoint import make_checkpoint, make_config, make_tensors, write_weights

NAME = "model.layers.1.mlp.up_proj.weight"


def load(path: Path, dtype: torch.dtype, **options: Any) -> torch.nn.Module:
    if options.get("quantization") is not None:
        pytest.importorskip("bitsandbytes")
    return load_weights(path, read_config(path), dtype=dtype, device=torch.device("cpu"), **options)


def test_tensors_of_every_type_and_shape_are_read_as_the_format_s_own_library_reads_them(
    tmp_path: Path,
) -> None:
    file = tmp_path / "model.safetensors"
    tensors = {
        "half": torch.randn(3, 5).half(),
        "brain": torch.randn(7).bfloat16(),
        "single": torch.randn(2, 1, 3),
        "byte": torch.arange(5, dtype=torch.uint8),
        "scalar": torch.tensor(3, dtype=torch.int64),
        "empty": torch.empty(0, 4),
        "flag": torch.tensor([True, False]),
    }
    save_file(tensors, file)
    opened = StoredFile(file)
    for name, info in read_safetensors_header(file).items():
        stored = StoredTensor(opened, info)
        found = torch.empty(stored.shape, dtype=stored.dtype)
        stored.read(found)
        assert torch.equal(found, load_file(file)[name]), name
    part = torch.empty(4, dtype=torch.float16)
    StoredTensor(opened, read_safetensors_header(file)["half"]).read(part, 6)
    assert torch.equal(part, tensors["half"].view(-1)[6:10])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not list them")
def test_no_file_stays_open_after_a_load(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path)
    model = load(path, torch.float32, quantization="nf4")
    gc.collect()
    links = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    assert not [link for link in links if link.startswith(str(path))]
    assert model is not None


def test_a_file_that_became_shorter_is_an_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(4_000)}, file)
    stored = StoredTensor(StoredFile(file), read_safetensors_header(file)["weight"])
    os.truncate(file, 9_000)
    with pytest.raises(WeightsError, match=r"model\.safetensors became shorter") as caught:
        stored.read(torch.empty(4_000))
    assert caught.value.parameter == file.name


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="files are read otherwise here")
def test_no_system_is_asked_for_more_than_it_gives_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS refuses 2 GiB, which is 2,000 bytes here."""
    weight = torch.randn(1_000)
    save_file({"weight": weight}, tmp_path / "model.safetensors")
    real = os.preadv

    def preadv(handle: int, buffers: list[memoryview], start: int) -> int:
        if sum(map(len, buffers)) > 2_000:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(handle, buffers, start)

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(stored_module, "_MOST_AT_ONCE", stored_module._MOST_AT_ONCE >> 20)
    (_, found), *_ = read_tensors(tmp_path / "model.safetensors")
    assert torch.equal(found, weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_tensors_read_in_pieces_are_whole_and_checked_to_the_last(
    tmp_path: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L4, L5: in the files' own type, straight to where they stay, and in another."""
    monkeypatch.setattr(sources, "_STRETCH", 100)
    path = make_checkpoint(tmp_path, layout="safetensors")
    tensors = make_tensors(make_config())
    loaded = load(path, dtype).state_dict()
    assert all(torch.equal(loaded[name], tensor.to(dtype)) for name, tensor in tensors.items())
    for at in (0, 99, 100, -1):
        broken = tensors | {NAME: tensors[NAME].clone()}
        broken[NAME].view(-1)[at] = float("nan")
        write_weights(path, broken, "safetensors")
        with pytest.raises(WeightsError, match="holds NaN or infinity") as caught:
            load(path, dtype)
        assert caught.value.parameter == NAME


SHORTER = """
import os, sys, torch
from pathlib import Path
from aquila2_runtime.checkpoint import feed
from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.errors import WeightsError

file, device = Path(sys.argv[1]), sys.argv[2]
path = file.parent

# Once it is verified and opened, before its tensors are read.
plain = feed.open_sources
def late(files, watch, **more):
    found = plain(files, watch, **more)
    os.truncate(file, 9_000)
    return found

feed.open_sources = late
try:
    load_weights(path, read_config(path), dtype=torch.bfloat16, device=torch.device(device))
except WeightsError as error:
    print("refused:", error.message)
"""


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("name", "tied"),
    [("model.safetensors", False), ("model.safetensors", True), ("pytorch_model.bin", False)],
)
def test_a_checkpoint_that_becomes_shorter_while_it_is_read_is_an_error_and_kills_nothing(
    tmp_path: Path, device: str, name: str, tied: bool
) -> None:
    """L3: whatever is mapped of such a file ends the process that looks at it (SIGBUS)."""
    path = make_checkpoint(tmp_path / "model", layout=name.rpartition(".")[2],
                           dtype=torch.bfloat16, tie_word_embeddings=tied)  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", SHORTER, str(path / name), device],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr[-500:])
    assert f"{name} became shorter while it was read: it ends after 9000 bytes" in done.stdout


@pytest.mark.parametrize("layout", ["safetensors", "bin"])
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_rows_that_threads_pack_a_few_at_a_time_make_the_same_weights(
    tmp_path: Path, quantization: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_checkpoint(tmp_path, layout=layout)
    whole = load(path, torch.bfloat16, quantization=quantization).state_dict()
    for packing in (nf4_packing, int8_packing):
        monkeypatch.setattr(packing, "_STRETCH", 128)
    for name, tensor in load(path, torch.bfloat16, quantization=quantization).state_dict().items():
        assert torch.equal(tensor, whole[name]), name


@pytest.mark.parametrize("layout", ["safetensors", "bin"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_number_that_is_not_finite_is_named_however_its_weight_is_packed(
    tmp_path: Path, quantization: str, value: float, layout: str
) -> None:
    path = make_checkpoint(tmp_path, layout=layout)
    tensors = make_tensors(make_config())
    tensors[NAME][5, 3] = value
    write_weights(path, tensors, layout)
    with pytest.raises(WeightsError, match="holds NaN or infinity") as caught:
        load(path, torch.bfloat16, quantization=quantization)
    assert caught.value.parameter == NAME


@pytest.mark.parametrize(
    ("quantization", "dtype", "says"),
    [
        ("nf4", torch.float16, "values that float16 cannot hold."),
        ("int8", torch.float16, "values that float16 cannot hold."),
        ("int8", torch.bfloat16, "8 bits are packed from it"),
    ],
)
def test_a_number_too_large_for_what_is_packed_is_named_as_that(
    tmp_path: Path, quantization: str, dtype: torch.dtype, says: str
) -> None:
    path = make_checkpoint(tmp_path, layout="safetensors")
    tensors = make_tensors(make_config())
    tensors[NAME][5, 3] = 1e5
    write_weights(path, tensors, "safetensors")
    with pytest.raises(WeightsError, match=says) as caught:
        load(path, dtype, quantization=quantization)
    assert caught.value.parameter == NAME
