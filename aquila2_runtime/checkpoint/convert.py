"""Converting a checkpoint's weights into safetensors of another type, once and for good.

The released 7B chat models are pickles of 32-bit numbers, twice the size they are used in. Tensors
are read, converted and written one at a time, and compared with the written file afterwards. The
result appears under its name only when all of it is there and verified.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from aquila2_runtime.checkpoint.config import ModelConfig, read_config
from aquila2_runtime.checkpoint.shard_writer import index_of, item_bytes, split, write_shard
from aquila2_runtime.checkpoint.verify import WeightFiles, verify_weights
from aquila2_runtime.errors import ConfigError, InvalidLoadOptionError, WeightsError

if TYPE_CHECKING:
    import torch

    from aquila2_runtime.checkpoint.hub_files import Progress

DTYPES: Final = ("auto", "float32", "float16", "bfloat16")
SHARD_BYTES: Final = 5_000_000_000
# Small files that belong to a checkpoint: settings, tokenizer, licence, card. Never code.
_COPIED: Final = re.compile(
    r"(?!pytorch_model|model\.safetensors|adapter_|tf_|flax_)[\w.-]+\.json"
    r"|merges\.txt|tokenizer\.model|(LICEN[CS]E|NOTICE|README)[\w.-]*",
    re.ASCII | re.IGNORECASE,
)
_MAX_COPIED: Final = 64 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion made.

    Attributes:
        path: The new checkpoint.
        dtype: Type of its weights.
        files: Its weight files.
        num_bytes: Bytes of its tensors.
        source_bytes: Bytes of the source's.
    """

    path: Path
    dtype: str
    files: tuple[str, ...]
    num_bytes: int
    source_bytes: int


def convert_checkpoint(
    source: Path,
    destination: Path,
    *,
    dtype: str = "auto",
    shard_bytes: int = SHARD_BYTES,
    allow_pickle: bool = True,
    progress: Progress | None = None,
) -> Converted:
    """Write a checkpoint's weights anew as safetensors.

    ``config.json`` is written with the new type and without ``auto_map``, whose code is not
    copied; tokenizer, licence and card are copied as they are.

    Args:
        source: The checkpoint's directory; only read.
        destination: The new directory; it must not exist.
        dtype: "float16", "bfloat16" or "float32"; "auto" is the type that config.json declares if
            that has 16 bits, else bfloat16.
        shard_bytes: Largest size of a file.
        allow_pickle: Whether ``.bin`` shards may be opened (by the restricted unpickler).
        progress: Called with "converting", bytes read and bytes in all.

    Raises:
        InvalidLoadOptionError: The destination exists, or its disk is too small.
        CheckpointError: A file of the source is wrong, or a number does not fit the new type.
    """
    config = read_config(source)
    if config.packing is not None:
        raise ConfigError(
            f"{source.name} holds {config.packing.label} weights, which are not converted.",
            parameter="quantization_config",
            value=config.packing.method,
            hint="Convert the unquantized checkpoint; this one loads as it is.",
        )
    files = verify_weights(source, config, allow_pickle=allow_pickle)
    chosen = _dtype(dtype, config)
    if destination.exists() or destination.is_symlink():
        _refuse("destination", destination, f"{destination} exists", "Name a new directory.")
    total = sum(math.prod(info.shape) for info in files.tensors.values()) * item_bytes(chosen)
    copied = [
        file
        for file in sorted(source.iterdir())
        if _COPIED.fullmatch(file.name) and file.is_file() and file.stat().st_size <= _MAX_COPIED
    ]
    _check_room(destination, total + sum(file.stat().st_size for file in copied))
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(
        tempfile.mkdtemp(prefix=f".{destination.name}.", suffix=".partial", dir=destination.parent)
    )
    try:
        names = _write_weights(files, partial, chosen, shard_bytes, progress)
        for file in copied:
            shutil.copyfile(file, partial / file.name)
        _write_config(config, partial, chosen)
        verify_weights(partial, read_config(partial), allow_pickle=False)
        partial.chmod(0o755)
        if destination.exists():
            _refuse("destination", destination, f"{destination} appeared meanwhile", "")
        partial.rename(destination)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Converted(destination, chosen, tuple(names), total, files.num_bytes)


def _dtype(asked: str, config: ModelConfig) -> str:
    if asked not in DTYPES:
        raise InvalidLoadOptionError(
            f"dtype={asked!r:.60} is not known.",
            parameter="dtype",
            value=asked,
            hint=f"Known: {', '.join(DTYPES)}.",
        )
    if asked != "auto":
        return asked
    return config.torch_dtype if config.torch_dtype != "float32" else "bfloat16"


def _check_room(destination: Path, needed: int) -> None:
    parent = destination.absolute().parent
    while not parent.exists():
        parent = parent.parent
    free = shutil.disk_usage(parent).free
    if needed > free:
        _refuse(
            "destination",
            destination,
            f"{needed} bytes ({needed / 2**30:.1f} GiB) are needed there; {free} "
            f"({free / 2**30:.1f} GiB) are free",
            "Free some space, or name a directory on another disk.",
        )


def _write_weights(
    files: WeightFiles,
    folder: Path,
    dtype: str,
    shard_bytes: int,
    progress: Progress | None,
) -> list[str]:
    """Write every tensor, one source shard after the other; returns the files' names."""
    size = item_bytes(dtype)
    groups: list[tuple[Path, list[str]]] = []
    for file in files.files:
        own = {
            name: math.prod(info.shape) * size
            for name, info in files.tensors.items()
            if info.file == file
        }
        groups += [(file, group) for group in split(own, shard_bytes)]
    count = len(groups)
    names = ["model.safetensors"]
    if count > 1:
        names = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    done = 0
    for name, (file, tensors) in zip(names, groups, strict=True):
        if progress is not None:
            progress("converting", done, files.num_bytes)
        read = _reader(files, file, tensors, dtype)
        shapes = {tensor: files.tensors[tensor].shape for tensor in tensors}
        write_shard(folder / name, shapes, dtype, read)
        _compare(folder / name, shapes, read)
        done += sum(files.tensors[tensor].num_bytes for tensor in tensors)
    if count > 1:
        total = sum(math.prod(info.shape) for info in files.tensors.values()) * size
        index = index_of(
            [(name, group) for name, (_, group) in zip(names, groups, strict=True)], total
        )
        _write_json(folder / "model.safetensors.index.json", index)
    if progress is not None:
        progress("converting", done, files.num_bytes)
    return names


def _reader(
    files: WeightFiles, file: Path, names: list[str], dtype: str
) -> Callable[[str], torch.Tensor]:
    """Give the values of one shard's tensors in the new type, checked."""
    import torch

    from aquila2_runtime.checkpoint.sources import Watch, is_finite, open_sources

    kind: torch.dtype = getattr(torch, dtype)
    part = dataclasses.replace(
        files, files=(file,), tensors={name: files.tensors[name] for name in names}
    )
    sources = open_sources(part, Watch(part, None), own=False)

    def read(name: str) -> torch.Tensor:
        stored: torch.Tensor = sources[name][...]
        converted = stored.to(kind)
        if not is_finite(converted):
            raise WeightsError(
                f"{file.name}: tensor {name} has values that {dtype} cannot hold.",
                parameter=name,
                value=file.name,
                hint="Convert to bfloat16 (--dtype bfloat16).",
            )
        return converted

    return read


def _compare(
    path: Path, shapes: dict[str, tuple[int, ...]], read: Callable[[str], torch.Tensor]
) -> None:
    """Every tensor as it is in the written file must be what was to be written."""
    import torch
    from safetensors import safe_open

    with safe_open(path, framework="pt", device="cpu") as written:
        for name in shapes:
            found = written.get_tensor(name)
            wanted = read(name)
            if found.dtype != wanted.dtype or not torch.equal(found, wanted):
                raise WeightsError(
                    f"{path.name}: tensor {name} was not written as it was read.",
                    parameter=name,
                    value=path.name,
                    hint="The disk may be failing; try another one.",
                )


def _write_config(config: ModelConfig, folder: Path, dtype: str) -> None:
    values = {key: value for key, value in config.raw.items() if key not in ("auto_map", "dtype")}
    _write_json(folder / "config.json", {**values, "torch_dtype": dtype})


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", "utf-8")


def _refuse(parameter: str, value: object, problem: str, hint: str) -> NoReturn:
    raise InvalidLoadOptionError(
        f"{problem}.", parameter=parameter, value=str(value), hint=hint or None
    )
