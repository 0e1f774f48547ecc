"""Converting a checkpoint's weights into safetensors of another form, once and for good.

The released 7B chat models are pickles of 32-bit numbers, twice the size they are used in, and
packing weights takes longer than reading packed ones. Tensors are read, converted and written one
at a time, and the written file is read and compared afterwards. The result appears under its name
only when all of it is there and verified.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from aquila2_runtime.checkpoint.appearing import appearing, check_free
from aquila2_runtime.checkpoint.config import ModelConfig, read_config
from aquila2_runtime.checkpoint.prequantized import require_bitsandbytes
from aquila2_runtime.checkpoint.rewriting import Rewriter, Weight
from aquila2_runtime.checkpoint.shard_writer import digests_of, index_of, split, write_shard
from aquila2_runtime.checkpoint.verify import verify_weights
from aquila2_runtime.errors import ConfigError, InvalidLoadOptionError, WeightsError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.hub_files import Progress

DTYPES: Final = ("auto", "float32", "float16", "bfloat16")
SHARD_BYTES: Final = 5_000_000_000
# Small files that belong to a checkpoint: settings, tokenizer, licence, card. Never code, nor what
# says how the old files were packed.
_COPIED: Final = re.compile(
    r"(?!pytorch_model|model\.safetensors|adapter_|tf_|flax_|quantize_config|quant_config)"
    r"[\w.-]+\.json"
    r"|merges\.txt|tokenizer\.model|(LICEN[CS]E|NOTICE|README)[\w.-]*",
    re.ASCII | re.IGNORECASE,
)
_MAX_COPIED: Final = 64 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion made.

    Attributes:
        path: The new checkpoint.
        dtype: Type of its weights, of those that are not packed.
        quantization: How the layers' projections are packed: "nf4", "int8" or None.
        files: Its weight files.
        num_bytes: Bytes of its tensors.
        source_bytes: Bytes of the source's.
    """

    path: Path
    dtype: str
    quantization: str | None
    files: tuple[str, ...]
    num_bytes: int
    source_bytes: int


def convert_checkpoint(
    source: Path,
    destination: Path,
    *,
    dtype: str = "auto",
    quantization: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    allow_pickle: bool = True,
    progress: Progress | None = None,
) -> Converted:
    """Write a checkpoint's weights anew as safetensors.

    ``config.json`` is written with the new type and without ``auto_map``, whose code is not
    copied; tokenizer, licence and card are copied as they are. 4-bit weights of GPTQ and AWQ are
    unpacked. Packed weights are written as transformers writes them, which can read them too.

    Args:
        source: The checkpoint's directory; only read.
        destination: The new directory; it must not exist.
        dtype: "float16", "bfloat16" or "float32"; "auto" is the type that config.json declares if
            that has 16 bits, else bfloat16.
        quantization: "nf4" or "int8" packs the layers' projections by bitsandbytes; None does not.
        shard_bytes: Largest size of a file.
        allow_pickle: Whether ``.bin`` shards may be opened (by the restricted unpickler).
        progress: Called with "converting", bytes read and bytes in all.

    Raises:
        InvalidLoadOptionError: The destination exists, its disk is too small, or an unknown form.
        MissingDependencyError: bitsandbytes is not installed.
        CheckpointError: A file of the source is wrong, or a number does not fit the new type.
    """
    config = read_config(source)
    _check_source(source, config)
    if quantization is not None:
        require_bitsandbytes(quantization)
    files = verify_weights(source, config, allow_pickle=allow_pickle)
    chosen = _dtype(dtype, config)
    _check_destination(source, destination)
    if shard_bytes < 1:
        _refuse("shard_bytes", shard_bytes, f"shard_bytes={shard_bytes} holds nothing", "")
    rewriter = Rewriter(files, config, chosen, quantization)
    weights = rewriter.weights()
    total = sum(weight.written_bytes for weight in weights)
    copied = [
        file
        for file in sorted(source.iterdir())
        if _COPIED.fullmatch(file.name) and file.is_file() and file.stat().st_size <= _MAX_COPIED
    ]
    _check_room(destination, total + sum(file.stat().st_size for file in copied))
    with appearing(destination) as partial:
        names = _write_weights(rewriter, weights, partial, shard_bytes, progress)
        for file in copied:
            shutil.copyfile(file, partial / file.name)
        _write_config(config, partial, chosen, rewriter)
        verify_weights(partial, read_config(partial), allow_pickle=False)
    return Converted(destination, chosen, quantization, tuple(names), total, files.num_bytes)


def _check_source(source: Path, config: ModelConfig) -> None:
    if config.prequantized is not None:
        raise ConfigError(
            f"{source.name} holds {config.prequantized.label} weights, which are not converted.",
            parameter="quantization_config",
            value=config.prequantized.method,
            hint="Convert the unquantized checkpoint; this one loads as it is.",
        )


def _check_destination(source: Path, destination: Path) -> None:
    check_free(destination)
    # Where they truly are: a name may lead through links, or out of a directory again by "..".
    if Path(os.path.realpath(destination)).is_relative_to(os.path.realpath(source)):
        _refuse("destination", destination, f"{destination} lies in the source", "Name another.")


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
    rewriter: Rewriter,
    weights: list[Weight],
    folder: Path,
    shard_bytes: int,
    progress: Progress | None,
) -> list[str]:
    """Write every tensor, one source shard after the other; returns the files' names."""
    groups = _groups(weights, shard_bytes)
    count = len(groups)
    names = ["model.safetensors"]
    if count > 1:
        names = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    source_bytes = sum(weight.read_bytes for weight in weights)
    placed: list[tuple[str, list[str]]] = []
    done = 0
    for file, group in zip(names, groups, strict=True):
        if progress is not None:
            progress("converting", done, source_bytes)
        forms = {weight.name: rewriter.forms(weight.name) for weight in group}
        read = functools.partial(rewriter.read, rewriter.open(group[0].files))
        wrote = write_shard(folder / file, forms, read)
        _compare(folder / file, wrote)
        placed.append((file, [tensor for form in forms.values() for tensor in form]))
        done += sum(weight.read_bytes for weight in group)
    if count > 1:
        total = sum(weight.written_bytes for weight in weights)
        _write_json(folder / "model.safetensors.index.json", index_of(placed, total))
    if progress is not None:
        progress("converting", done, source_bytes)
    return names


def _groups(weights: list[Weight], shard_bytes: int) -> list[list[Weight]]:
    """The weights of each new file; all of one are read from the same files of the source."""
    by_name = {weight.name: weight for weight in weights}
    by_files: dict[tuple[Path, ...], dict[str, int]] = {}
    for weight in weights:
        by_files.setdefault(weight.files, {})[weight.name] = weight.written_bytes
    return [
        [by_name[name] for name in group]
        for sizes in by_files.values()
        for group in split(sizes, shard_bytes)
    ]


def _compare(path: Path, wrote: dict[str, bytes]) -> None:
    """Every tensor as it is in the written file must be what was to be written."""
    found = digests_of(path)
    for name, digest in wrote.items():
        if found.get(name) != digest:
            raise WeightsError(
                f"{path.name}: tensor {name} was not written as it was read.",
                parameter=name,
                value=path.name,
                hint="The disk may be failing; try another one.",
            )


def _write_config(config: ModelConfig, folder: Path, dtype: str, rewriter: Rewriter) -> None:
    left_out = ("auto_map", "dtype", "quantization_config")
    values = {key: value for key, value in config.raw.items() if key not in left_out}
    values["torch_dtype"] = dtype
    if rewriter.form is not None:
        values["quantization_config"] = rewriter.form.settings(dtype).to_dict()
    _write_json(folder / "config.json", values)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", "utf-8")


def _refuse(parameter: str, value: object, problem: str, hint: str) -> NoReturn:
    raise InvalidLoadOptionError(
        f"{problem}.", parameter=parameter, value=str(value), hint=hint or None
    )
