"""Feed: a checkpoint's tensors in the form in which transformers is to read them. No model here.

Tensors are read from their files, not seen in mapped ones. For a model in main memory weights are
packed here, while they are read: transformers finds what it would find in a directory that was
saved packed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

import torch

from aquila2_runtime.checkpoint.expected import FLOATS, projections
from aquila2_runtime.checkpoint.packer import PACKERS, packing_sources
from aquila2_runtime.checkpoint.room import Room
from aquila2_runtime.checkpoint.sources import OwnSource, Source, open_sources
from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.checkpoint.sources import Update
    from aquila2_runtime.checkpoint.verify import WeightFiles
    from aquila2_runtime.checkpoint.watch import Watch

_HEAD: Final = "lm_head.weight"
_EMBEDDING: Final = "model.embed_tokens.weight"


def feed(
    files: WeightFiles,
    config: ModelConfig,
    dtype: torch.dtype,
    settings: Any,
    watch: Watch,
    updates: Mapping[str, Update],
    *,
    on_cpu: bool,
) -> tuple[dict[str, Any], bool]:
    """Open the files.

    Args:
        files: Verified.
        config: The checkpoint.
        dtype: Type of what is not packed, and of what packed weights are computed in.
        settings: bitsandbytes'; None where nothing is packed.
        watch: Told of every tensor that is read.
        updates: Changes to make to tensors, by name, when they are read.
        on_cpu: Whether the model stays in main memory.

    Returns:
        What gives each tensor, and whether transformers finds weights packed.

    Raises:
        WeightsError: A file cannot be opened or was changed, or a tied head is another one.
    """
    sources: dict[str, Any] = dict(open_sources(files, watch, updates=updates))
    if config.tie_word_embeddings and _HEAD in sources:
        _check_tied(sources, watch)
        del sources[_HEAD]
    stored = config.prequantized is not None
    packed: Collection[str] = ()
    if settings is not None and not stored:
        packed = {f"{name}.weight" for name in projections(config)}

    room = Room()

    def own(name: str, source: Any) -> Any:
        if (on_cpu and name in packed) or not isinstance(source, Source):
            return source
        # Scales of packed weights keep their type; on its device transformers changes it itself.
        plain = name.endswith(".weight") and files.tensors[name].dtype in FLOATS
        return OwnSource(source, dtype if plain and (on_cpu or stored) else None, room,
                         moves=not (on_cpu or stored))  # fmt: skip

    sources = {name: own(name, source) for name, source in sources.items()}
    if packed and on_cpu:
        packer = PACKERS["nf4" if settings.load_in_4bit else "int8"]
        return packing_sources(sources, packed, packer, dtype, watch), True
    return sources, stored


def _check_tied(sources: Mapping[str, Any], watch: Watch) -> None:
    """A head that is stored although it is tied must be the embedding."""
    head, embedding = (sources[name].values() for name in (_HEAD, _EMBEDDING))
    if not torch.equal(head, embedding.to(head.dtype)):
        raise WeightsError(
            f"{_HEAD} differs from {_EMBEDDING}, yet config.json ties them.",
            parameter=_HEAD,
            hint="Set tie_word_embeddings to false in config.json.",
        )
    watch.seen(_HEAD, head)
