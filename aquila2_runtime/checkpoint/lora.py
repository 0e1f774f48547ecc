"""LoRA adapters as peft saves them: found, checked from their headers, then read. No model here.

A directory holds ``adapter_config.json`` and ``adapter_model.safetensors``, or
``adapter_model.bin`` (opened by torch's restricted unpickler only). Both the layout that peft
writes today and that of 2023, which the reference project's LoRA and QLoRA training wrote, name a
pair of matrices per projection::

    base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight   [rank, in]
    base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight   [out, rank]
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from aquila2_runtime.checkpoint.adapter_config import (
    CONFIG_NAME,
    PROJECTIONS,
    AdapterConfig,
    projection_shapes,
    read_adapter_config,
)
from aquila2_runtime.checkpoint.headers import TensorInfo
from aquila2_runtime.checkpoint.stored import read_header, read_tensors
from aquila2_runtime.errors import ConfigError, ModelNotFoundError, WeightsError

if TYPE_CHECKING:
    import torch

    from aquila2_runtime.checkpoint.config import ModelConfig

_log = logging.getLogger(__name__)

# One matrix pair: A and B of a layer's projection.
Pair = tuple["torch.Tensor", "torch.Tensor"]
Place = tuple[int, str]

_TENSOR: Final = re.compile(
    r"(?:base_model\.model\.)?model\.layers\.(?P<layer>\d{1,4})\.(?P<block>\w+)\."
    r"(?P<projection>\w+)\.lora_(?P<side>[AB])(?:\.default)?\.weight",
    re.ASCII,
)
_FLOATS: Final = ("float16", "bfloat16", "float32")
_CHUNK: Final = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class AdapterFiles:
    """A checked adapter on disk; its values have not been read.

    Attributes:
        name: What requests call it.
        file: Its weight file.
        config: Its settings.
        pairs: Names of the two tensors in the file, by layer and projection.
        digest: SHA-256 of both files: adapters with equal digests are the same adapter.
        num_values: Numbers in its matrices.
    """

    name: str
    file: Path
    config: AdapterConfig
    pairs: Mapping[Place, tuple[str, str]]
    digest: str
    num_values: int


def check_adapter(
    name: str, directory: str | Path, config: ModelConfig, *, allow_pickle: bool = True
) -> AdapterFiles:
    """Check an adapter against its base model, from its headers alone.

    Args:
        name: What requests call it.
        directory: Where it lies.
        config: The base model's facts.
        allow_pickle: Whether ``adapter_model.bin`` may be opened (by the restricted unpickler).

    Raises:
        ModelNotFoundError: There is no such directory.
        ConfigError: Its settings are wrong or not supported.
        WeightsError: A tensor is missing, doubled, unexpected or of a wrong shape or type.
    """
    path = Path(directory).expanduser()
    if not path.is_dir():
        raise ModelNotFoundError(
            f"The adapter {name!r} is to lie in {str(path)!r:.200}, which is no directory.",
            parameter="adapters",
            value=str(directory),
            hint=f"Give the directory that holds {CONFIG_NAME}.",
        )
    settings = read_adapter_config(path, config.num_layers)
    file = _weight_file(path, allow_pickle=allow_pickle)
    headers = read_header(file)
    pairs = _pairs(file, headers, settings, config)
    _check_complete(file, pairs, settings, config)
    num_values = sum(math.prod(info.shape) for info in headers.values())
    return AdapterFiles(name, file, settings, pairs, _digest(path / CONFIG_NAME, file), num_values)


def read_adapter(files: AdapterFiles) -> dict[Place, Pair]:
    """Read an adapter's matrices.

    Returns:
        A ``[rank, in]`` and B ``[out, rank]`` by layer and projection, as stored.

    Raises:
        WeightsError: The file changed since it was checked, or holds NaN or infinity.
    """
    from aquila2_runtime.checkpoint.watch import is_finite

    tensors = dict(read_tensors(files.file))
    read: dict[Place, Pair] = {}
    for place, names in files.pairs.items():
        for name in names:
            if name not in tensors:
                _fail(files.file, name, "is missing")
            if not is_finite(tensors[name]):
                _fail(files.file, name, "holds NaN or infinity")
        read[place] = (tensors[names[0]], tensors[names[1]])
    return read


def lora_updates(files: AdapterFiles) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Merging an adapter: what to do with each of the base model's tensors that it changes.

    Sums are formed in fp32, whatever the types of either file.
    """
    scaling = files.config.scaling

    def update(pair: Pair) -> Callable[[torch.Tensor], torch.Tensor]:
        down, up = pair
        return lambda weight: weight.float().addmm(up.float(), down.float(), alpha=scaling)

    return {
        f"model.layers.{layer}.{PROJECTIONS[projection]}.{projection}.weight": update(pair)
        for (layer, projection), pair in read_adapter(files).items()
    }


def warn_of_other_base(files: AdapterFiles, model: str) -> None:
    """Say in the log when an adapter names another base model than the one it is used with.

    Args:
        files: The adapter.
        model: What the loaded checkpoint is called.
    """
    base = files.config.base
    if base is not None and _last(base) != _last(model):
        _log.warning(
            "The adapter %s was trained on %.100r and is used with %.100r.",
            files.name,
            base,
            model,
        )


def _last(name: str) -> str:
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1].lower()


def _weight_file(path: Path, *, allow_pickle: bool) -> Path:
    safe, pickled = path / "adapter_model.safetensors", path / "adapter_model.bin"
    if safe.is_file():
        return safe
    if not pickled.is_file():
        raise WeightsError(
            f"{path.name} holds neither adapter_model.safetensors nor adapter_model.bin.",
            parameter="adapters",
            value=str(path),
            hint="Copy every file of the adapter into one directory.",
        )
    if not allow_pickle:
        raise WeightsError(
            f"{path.name} has only adapter_model.bin, and allow_pickle is False.",
            parameter="allow_pickle",
            value=False,
            hint="Pass allow_pickle=True (it is read by the restricted unpickler), or save the "
            "adapter as safetensors.",
        )
    return pickled


def _pairs(
    file: Path,
    headers: Mapping[str, TensorInfo],
    settings: AdapterConfig,
    config: ModelConfig,
) -> dict[Place, tuple[str, str]]:
    """Every tensor in its place; the shapes are the base model's."""
    shapes = projection_shapes(config)
    sides: dict[Place, dict[str, str]] = {}
    for name, info in headers.items():
        found = _TENSOR.fullmatch(name)
        if found is None or PROJECTIONS.get(found["projection"]) != found["block"]:
            _refuse_other(file, name, info, config)
        place = (int(found["layer"]), found["projection"])
        if place[0] >= config.num_layers:
            _fail(file, name, f"is of layer {place[0]}; the base model has {config.num_layers}")
        if found["side"] in sides.setdefault(place, {}):
            _fail(file, name, f"is there twice, also as {sides[place][found['side']]}")
        out, into = shapes[place[1]]
        expected = (settings.rank, into) if found["side"] == "A" else (out, settings.rank)
        if info.shape != expected:
            _fail(file, name, f"has the shape {list(info.shape)}; it must be {list(expected)}")
        if info.dtype not in _FLOATS:
            _fail(file, name, f"is of type {info.dtype}; it must be one of {', '.join(_FLOATS)}")
        sides[place][found["side"]] = name
    for place, names in sides.items():
        if len(names) == 1:
            (side, name), other = next(iter(names.items())), {"A": "B", "B": "A"}
            _fail(file, name.replace(f"lora_{side}", f"lora_{other[side]}"), "is missing")
        # What the settings do not name, the adapter was not trained with.
        if settings.targets is not None and place[1] not in settings.targets:
            _fail(file, names["A"], "is of a projection that target_modules does not name")
    return {place: (names["A"], names["B"]) for place, names in sorted(sides.items())}


def _refuse_other(file: Path, name: str, info: TensorInfo, config: ModelConfig) -> NoReturn:
    if name.endswith(("embed_tokens.weight", "lm_head.weight")):
        rows = info.shape[0] if info.shape else 0
        problem = (
            f"shows a vocabulary of {rows}; the base model has {config.vocab_size}"
            if rows != config.vocab_size
            else "is a whole table; only LoRA matrices are supported"
        )
        raise WeightsError(
            f"{file.name}: tensor {name:.100} {problem}.",
            parameter=name,
            value=str(file),
            hint="Train with the base model's own vocabulary, without resizing it.",
        )
    _fail(file, name, "is not a LoRA matrix of a decoder layer")


def _check_complete(
    file: Path, pairs: Mapping[Place, object], settings: AdapterConfig, config: ModelConfig
) -> None:
    if not pairs:
        _fail(file, None, "holds no LoRA matrices")
    layers = settings.layers if settings.layers is not None else range(config.num_layers)
    for projection in settings.targets or ():
        for layer in layers:
            if (layer, projection) not in pairs:
                module = f"model.layers.{layer}.{PROJECTIONS[projection]}.{projection}"
                _fail(file, f"{module}.lora_A.weight", "is missing")
    for layer, projection in pairs:
        if layer not in layers:
            raise ConfigError(
                f"{file.name} changes {projection} of layer {layer}, which layers_to_transform "
                "does not name.",
                parameter="layers_to_transform",
                value=list(layers),
                hint="Files of two adapters are mixed.",
            )


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _fail(file: Path, tensor: str | None, problem: str) -> NoReturn:
    subject = f"{file.name}: tensor {tensor:.150}" if tensor is not None else file.name
    raise WeightsError(
        f"{subject} {problem}.",
        parameter=tensor or file.name,
        value=str(file),
        hint="The adapter was trained on another model, or its files are mixed or damaged.",
    )
