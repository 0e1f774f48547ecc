"""Reading ``.bin`` files by position: the same tensors that torch reads, and nothing mapped."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.pickles import read_bin_header
from aquila2_runtime.checkpoint.stored import StoredTensor, open_tensors, read_tensors
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.errors import WeightsError
from tests.fixtures_checkpoint import make_checkpoint, make_config, make_tensors

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
LAYER = "model.layers.1"


def odd_tensors() -> dict[str, torch.Tensor]:
    """Tensors that lie in every way in which torch can save them."""
    numbers = torch.arange(600.0)
    return {
        **{str(dtype): torch.randn(7, 5).to(dtype) for dtype in FLOATS},
        "whole": numbers,
        "part": numbers[10:50],
        "steps": numbers.view(20, 30)[3:, 1::2],
        "turned": torch.arange(12).view(3, 4).t(),
        "axes": torch.randn(2, 3, 4).permute(2, 0, 1),
        "again": torch.ones(1).expand(4, 3),
        "none": torch.empty(0, 3),
        "one": torch.tensor(3.0),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "flags": torch.tensor([True, False, True]),
    }


def rewritten(
    source: Path,
    target: Path,
    compression: int = zipfile.ZIP_STORED,
    change: Callable[[str, bytes], bytes] = lambda name, data: data,
    *,
    backwards: bool = False,
    more: bool = False,
) -> None:
    """An archive's records in another archive."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        first, *names = old.namelist()
        for name in [first, *(names[::-1] if backwards else names)]:
            new.writestr(name, change(name, old.read(name)))
        if more:
            new.writestr(first.replace("data.pkl", "data/999"), b"nobody's")


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def opened(file: Path) -> set[type]:
    return {type(stored) for stored in open_tensors(file, read_bin_header(file)).values()}


def test_tensors_are_those_that_torch_reads_however_they_lie_and_share(tmp_path: Path) -> None:
    file, wanted = tmp_path / "x.bin", odd_tensors()
    torch.save(wanted, file)
    assert opened(file) == {StoredTensor}
    found = dict(read_tensors(file))
    same(found, wanted)
    assert all(tensor.is_contiguous() for tensor in found.values())
    # Each has memory of its own: what is done to one is done to no other.
    found["whole"].zero_()
    same({"part": found["part"]}, {"part": wanted["part"]})


def test_records_may_lie_anywhere_and_in_any_order(tmp_path: Path) -> None:
    file, wanted = tmp_path / "x.bin", odd_tensors()
    torch.save(wanted, file)
    for backwards in (False, True):
        again = tmp_path / f"again-{backwards}.bin"
        rewritten(file, again, backwards=backwards)
        assert opened(again) == {StoredTensor}
        same(dict(read_tensors(again)), wanted)


def test_what_torch_alone_can_read_is_read_by_torch(tmp_path: Path) -> None:
    """Bare pickles, numbers the other way round, records that are no tensor's."""
    file, wanted = tmp_path / "x.bin", odd_tensors()
    torch.save(wanted, file, _use_new_zipfile_serialization=False)
    assert StoredTensor not in opened(file)
    same(dict(read_tensors(file)), wanted)

    torch.save(wanted, file)
    rewritten(file, tmp_path / "more.bin", more=True)
    assert StoredTensor not in opened(tmp_path / "more.bin")
    same(dict(read_tensors(tmp_path / "more.bin")), wanted)

    numbers = {"numbers": torch.arange(6, dtype=torch.int32)}
    torch.save(numbers, file)

    def swap(name: str, data: bytes) -> bytes:
        if name.endswith("byteorder"):
            return b"big"
        turned = numbers["numbers"].numpy().byteswap().tobytes()
        return turned if name.endswith("data/0") else data

    rewritten(file, tmp_path / "big.bin", change=swap)
    assert StoredTensor not in opened(tmp_path / "big.bin")
    same(dict(read_tensors(tmp_path / "big.bin")), numbers)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    torch.save(odd_tensors(), tmp_path / "x.bin")
    rewritten(tmp_path / "x.bin", tmp_path / "small.bin", zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match=r"small\.bin is compressed") as caught:
        read_bin_header(tmp_path / "small.bin")
    assert caught.value.parameter == "small.bin"


@pytest.mark.parametrize("keep", [0, 4, 100, 1_000, 4_000, -1, -30, -200])
def test_an_archive_that_was_cut_short_is_an_error_that_names_it(tmp_path: Path, keep: int) -> None:
    file = tmp_path / "x.bin"
    torch.save(odd_tensors(), file)
    os.truncate(file, keep if keep >= 0 else file.stat().st_size + keep)
    with pytest.raises(WeightsError, match=r"x\.bin") as caught:
        dict(read_tensors(file))
    assert caught.value.hint


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="this system does not list them")
def test_nothing_of_a_file_stays_mapped_when_its_header_was_read(tmp_path: Path) -> None:
    """L3: whoever looks at what is mapped of a file that became shorter is killed (SIGBUS)."""
    file = tmp_path / "x.bin"
    torch.save(odd_tensors(), file)
    kept = open_tensors(file, read_bin_header(file))
    assert str(file) not in Path("/proc/self/maps").read_text("utf-8")
    os.truncate(file, 2_000)
    with pytest.raises(WeightsError, match="it ends after 2000 bytes"):
        [stored.values() for stored in kept.values() if isinstance(stored, StoredTensor)]


@pytest.mark.parametrize("quantization", [None, "nf4", "int8"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_checkpoint_whose_tensors_share_storages_or_lie_by_columns_loads_the_same(
    tmp_path: Path, dtype: torch.dtype, quantization: str | None
) -> None:
    if quantization is not None:
        pytest.importorskip("bitsandbytes")
    tensors = make_tensors(make_config(), dtype=dtype)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    names = [f"{LAYER}.self_attn.{name}_proj.weight" for name in "qkv"]
    joined = torch.cat([tensors[name] for name in names])
    tensors |= dict(zip(names, joined.chunk(3), strict=True))
    gate, up = f"{LAYER}.mlp.gate_proj.weight", f"{LAYER}.mlp.up_proj.weight"
    tensors[up] = tensors[up].t().contiguous().t()
    woven = torch.stack([tensors[gate], tensors[gate] + 1], dim=2)
    tensors[gate] = woven[:, :, 0]
    models = []
    for layout in ("bin", "safetensors"):
        path = make_checkpoint(tmp_path / layout, layout=layout, dtype=dtype, tokenizer=None)
        if layout == "bin":
            torch.save(tensors, path / "pytorch_model.bin")
        else:
            from safetensors.torch import save_file

            plain = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
            save_file(plain, path / "model.safetensors")
        models.append(_load(path, torch.bfloat16, quantization))
    from_bin, from_safetensors = (model.state_dict() for model in models)
    same(from_bin, from_safetensors)


def _load(path: Path, dtype: torch.dtype, quantization: str | None) -> Any:
    return load_weights(
        path,
        read_config(path),
        dtype=dtype,
        device=torch.device("cpu"),
        quantization=quantization,
    )
