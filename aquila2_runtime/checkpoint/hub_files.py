"""Which of a repository's files are fetched, and whether a set is whole. It asks no hub."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from aquila2_runtime.checkpoint.strict_json import read_json_object
from aquila2_runtime.errors import WeightsError

Progress = Callable[[str, int, int | None], None]

_SMALL: Final = re.compile(r"(?!pytorch_model|tf_|flax_)[\w.-]+\.json|merges\.txt|tokenizer\.model")
_SAFE: Final = re.compile(
    r"(model(-\d+-of-\d+)?|gptq_model-\dbit-(-?1|\d{1,5})g)\.safetensors", re.ASCII
)
_PICKLED: Final = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin|pytorch_model\.bin\.index\.json")
_INDEXES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_MAX_INDEX_BYTES: Final = 64 << 20
# Any one of these sets is a tokenizer.
_TOKENIZERS: Final = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",))


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """A checkpoint in a cache.

    Attributes:
        path: Its directory.
        commit: The commit every file is of; None where the hub does not say.
    """

    path: Path
    commit: str | None


def choose_files(
    names: Iterable[str], *, allow_pickle: bool, repository: str, weights: bool = True
) -> list[str]:
    """Choose what to fetch of a repository's files.

    Args:
        names: Every file's path in the repository.
        allow_pickle: Whether ``.bin`` shards may be fetched where there is no safetensors.
        repository: Its id, for messages.
        weights: Whether weights are wanted at all.

    Raises:
        WeightsError: It has no weights that may be read.
    """
    listed = sorted(names)
    small = [name for name in listed if _SMALL.fullmatch(name)]
    safe = [name for name in listed if _SAFE.fullmatch(name)]
    if not weights:
        return small
    if safe:
        return small + safe
    pickled = [name for name in listed if _PICKLED.fullmatch(name)]
    if not any(name.endswith(".bin") for name in pickled):
        raise WeightsError(
            f"{repository} has neither model*.safetensors nor pytorch_model*.bin.",
            parameter="model",
            value=repository,
            hint="Name a repository with the unquantized weights.",
        )
    if not allow_pickle:
        raise WeightsError(
            f"{repository} has only .bin weights, and allow_pickle is False.",
            parameter="allow_pickle",
            value=False,
            hint="Pass allow_pickle=True (they are read by the restricted unpickler), or use a "
            "safetensors copy.",
        )
    return small + pickled


def looks_whole(path: Path, *, weights: bool = True) -> bool:
    """Whether a directory holds a whole checkpoint, or all but its weights, judged by names."""
    if not (path / "config.json").is_file():
        return False
    if not any(all((path / name).is_file() for name in names) for names in _TOKENIZERS):
        return False
    return not weights or _weights_complete(path)


def _weights_complete(path: Path) -> bool:
    for name in _INDEXES:
        if (path / name).is_file():
            index = read_json_object(path / name, max_bytes=_MAX_INDEX_BYTES, error=WeightsError)
            shards = index.get("weight_map")
            names = set(map(str, shards.values())) if isinstance(shards, dict) else set()
            if names and all((path / Path(shard).name).is_file() for shard in names):
                return True
    whole = ("model.safetensors", "pytorch_model.bin", "gptq_model-*.safetensors")
    return any(file.is_file() for name in whole for file in path.glob(name))
