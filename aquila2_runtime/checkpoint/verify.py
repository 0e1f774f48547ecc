"""Whether a checkpoint's weight files are whole and of the right shapes. It reads no weight.

Everything is judged from headers: the index, the safetensors headers, what pickles say of their
tensors; of biases that must be zero, values are read too. safetensors is taken where a directory
has both formats.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from aquila2_runtime.checkpoint.expected import (
    Expected,
    expected_tensors,
    prequantized_projections,
)
from aquila2_runtime.checkpoint.headers import TensorInfo
from aquila2_runtime.checkpoint.quant_state import check_states
from aquila2_runtime.checkpoint.stored import read_header
from aquila2_runtime.checkpoint.strict_json import read_json_object
from aquila2_runtime.checkpoint.zero_biases import check_zeros, possible_biases
from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.checkpoint.packing import Packing

_MAX_INDEX_BYTES: Final = 64 << 20
_SHARD: Final = re.compile(r".*-(\d+)-of-(\d+)\.(safetensors|bin)")
# A buffer older code saved; its values follow from config.json and are computed anew.
_COMPUTED: Final = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
# Parts that only packed weights have.
_PACKED: Final = re.compile(r".*\.(qweight|qzeros|g_idx|scales|SCB|weight\..+)")
_MAX_NAME: Final = 255
_CHANGED: Final = "Load it again when nothing else writes to the directory."
_GPTQ: Final = re.compile(r"gptq_model-\dbit-(-?1|\d{1,5})g")


@dataclasses.dataclass(frozen=True, slots=True)
class WeightFiles:
    """A checkpoint's verified weight files.

    Attributes:
        format: "safetensors" or "bin".
        files: The shards, in order.
        tensors: Every tensor the model takes, by name.
        ignored: Tensors known to be computed anew, or to be zero, instead of read.
        packing: How 4-bit weights are stored; None when they are not packed.
        stamps: Which file each name stood for when it was verified, and its last change.
    """

    format: str
    files: tuple[Path, ...]
    tensors: Mapping[str, TensorInfo]
    ignored: tuple[str, ...]
    packing: Packing | None = None
    stamps: Mapping[Path, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def check_unchanged(self) -> None:
        """Make sure that what is read is what was verified.

        In a hub's cache names are links: another process may point them elsewhere at any time.

        Raises:
            WeightsError: A name stands for another file now, or its file was written to.
        """
        for file, stamp in self.stamps.items():
            if _stamp(file) != stamp:
                _fail(file.name, None, "was changed or exchanged while it was read", _CHANGED)

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensors taken, as stored."""
        return sum(tensor.num_bytes for tensor in self.tensors.values())


def verify_weights(path: Path, config: ModelConfig, *, allow_pickle: bool = True) -> WeightFiles:
    """Check every shard and tensor of a checkpoint from its headers.

    Args:
        path: The checkpoint's directory.
        config: What config.json says.
        allow_pickle: Whether ``.bin`` shards may be opened (by torch's restricted unpickler).

    Raises:
        WeightsError: A file or tensor is missing, malformed, doubled, unexpected or of a wrong
            shape or type; the message names it.
    """
    kind, stem = _format(path, allow_pickle=allow_pickle)
    index = path / (stem + f".{kind}.index.json")
    placed = _read_index(index) if index.exists() else None
    names = [f"{stem}.{kind}"] if placed is None else sorted(set(placed.values()))
    _check_files(path, names, kind, stem, indexed=placed is not None)
    stamps = {path / name: _stamp(path / name) for name in names}
    found: dict[str, TensorInfo] = {}
    ignored: list[str] = []
    biases: dict[str, TensorInfo] = {}
    expected, extra = expected_tensors(config), possible_biases(config)
    for name in names:
        for tensor, info in read_header(path / name).items():
            if tensor not in expected and _COMPUTED.fullmatch(tensor):
                ignored.append(tensor)
                continue
            if other := found.get(tensor) or biases.get(tensor):
                _fail(name, tensor, f"is also in {other.file.name}", "Delete one copy.")
            _check_tensor(name, tensor, info, expected.get(tensor) or extra.get(tensor))
            if placed is not None and placed.get(tensor) != name:
                _fail(name, tensor, f"is placed in {placed.get(tensor)} by {index.name}")
            (biases if tensor in extra else found)[tensor] = info
    _check_missing(found | biases, expected, placed, names, kind)
    check_zeros(biases)
    ignored += biases
    if config.prequantized is not None:
        if kind == "bin":
            _fail(names[0], None, "holds bitsandbytes weights; only safetensors of them are read")
        check_states(config.prequantized, prequantized_projections(config), found)
    files = tuple(path / name for name in names)
    return WeightFiles(kind, files, found, tuple(ignored), config.packing, stamps)


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _format(path: Path, *, allow_pickle: bool) -> tuple[str, str]:
    # AutoGPTQ named its one file after bits and group size.
    for kind in ("safetensors", "bin"):
        own = [file for file in path.glob(f"gptq_model-*.{kind}") if _GPTQ.fullmatch(file.stem)]
        if len(own) == 1 and (kind == "safetensors" or allow_pickle):
            return kind, own[0].stem
    if any(path.glob("model*.safetensors")) or (path / "model.safetensors.index.json").exists():
        return "safetensors", "model"
    if (
        not any(path.glob("pytorch_model*.bin"))
        and not (path / "pytorch_model.bin.index.json").exists()
    ):
        raise WeightsError(
            f"{path} holds no weights: neither model*.safetensors nor pytorch_model*.bin.",
            parameter="model",
            value=str(path),
            hint="Copy every file of the checkpoint into one directory, or fetch it by name.",
        )
    if not allow_pickle:
        raise WeightsError(
            f"{path.name} has only .bin weights, and allow_pickle is False.",
            parameter="allow_pickle",
            value=False,
            hint="Pass allow_pickle=True (they are read by the restricted unpickler), or convert "
            "them to safetensors.",
        )
    return "bin", "pytorch_model"


def _read_index(path: Path) -> dict[str, str]:
    index = read_json_object(path, max_bytes=_MAX_INDEX_BYTES, error=WeightsError)
    placed = index.get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise WeightsError(
            f"{path.name} has no weight_map.", parameter="weight_map", hint="Fetch it again."
        )
    for tensor, name in placed.items():
        if not isinstance(name, str) or not _bare(name):
            _fail(path.name, tensor, f"is placed in {name!r:.100}, which is no bare file name")
    return placed


def _bare(name: str) -> bool:
    """Whether a name can only mean a file of its own directory, on any system."""
    if not 0 < len(name) <= _MAX_NAME or name.startswith(".") or not name.isprintable():
        return False
    return not any(character in name for character in "/\\:\0") and name.endswith(
        (".safetensors", ".bin")
    )


def _check_files(path: Path, names: list[str], kind: str, stem: str, *, indexed: bool) -> None:
    """Exactly the shards that the index lists must lie there."""
    for name in names:
        if not name.endswith("." + kind):
            _fail(name, None, f"is listed among {kind} shards")
        numbered = _SHARD.fullmatch(name)
        if numbered and int(numbered[2]) != len(names):
            _fail(name, None, f"is one of {numbered[2]} shards; {len(names)} are listed")
        if not (path / name).is_file():
            what = "is missing" if not (path / name).exists() else "is no regular file"
            _fail(name, None, what + (" though the index lists it" if indexed else ""))
    shard = re.compile(rf"{stem}(-\d+-of-\d+)?\.{kind}")
    for file in sorted(path.glob(f"{stem}*.{kind}")):
        if shard.fullmatch(file.name) and file.name not in names:
            why = "is not listed in the index" if indexed else "has no index beside it"
            _fail(file.name, None, why, "Files of two checkpoints are mixed, or one is missing.")


def _check_tensor(file: str, tensor: str, info: TensorInfo, expected: Expected | None) -> None:
    mixed = "config.json may be of another checkpoint."
    if expected is None and _PACKED.fullmatch(tensor):
        _fail(
            file,
            tensor,
            "is packed, but no quantization_config says how",
            "Fetch config.json (or quantize_config.json, quant_config.json) of this checkpoint.",
        )
    if expected is None:
        _fail(file, tensor, "is not part of this model", mixed)
    if not expected.fits(info.shape):
        wanted = ["any" if size < 0 else size for size in expected.shape]
        _fail(
            file, tensor, f"has the shape {list(info.shape)}; config.json makes it {wanted}", mixed
        )
    if info.dtype in expected.dtypes:
        return
    if len(expected.dtypes) == 1:
        _fail(file, tensor, f"is of type {info.dtype}; it must be {expected.dtypes[0]}", mixed)
    _fail(
        file,
        tensor,
        f"is of type {info.dtype}; float16, bfloat16 and float32 can be read",
        "Use the unquantized checkpoint, or fetch its config.json: it says how weights are packed.",
    )


def _check_missing(
    found: Mapping[str, TensorInfo],
    expected: Mapping[str, Expected],
    placed: Mapping[str, str] | None,
    names: list[str],
    kind: str,
) -> None:
    missing = [
        tensor for tensor, wanted in expected.items() if tensor not in found and not wanted.optional
    ]
    if missing:
        where = (placed or {}).get(missing[0]) or (names[0] if len(names) == 1 else f"every {kind}")
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        _fail(where, missing[0], f"is missing{more}")
    for tensor, name in (placed or {}).items():
        if tensor not in found and not _COMPUTED.fullmatch(tensor):
            _fail(name, tensor, "is missing though the index lists it")


def _fail(
    file: str, tensor: str | None, problem: str, hint: str = "Fetch the file again."
) -> NoReturn:
    subject = f"{file:.100}: tensor {tensor:.100}" if tensor is not None else f"{file:.100}"
    raise WeightsError(f"{subject} {problem}.", parameter=tensor or file, value=file, hint=hint)
