"""From load options to a model in use: one that is loaded already, or a new one. Builds nothing."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from aquila2_runtime.building import ModelBuild
from aquila2_runtime.cache_size import kv_bytes_per_token
from aquila2_runtime.errors import InvalidLoadOptionError
from aquila2_runtime.lora_adapters import attach, merged
from aquila2_runtime.placement import BLOCK_SIZE, choose, type_name
from aquila2_runtime.registry import LoadedModel, Use, models

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.checkpoint.lora import AdapterFiles
    from aquila2_runtime.checkpoint.resolve import ResolvedCheckpoint
    from aquila2_runtime.load_options import LoadOptions
    from aquila2_runtime.tokenizer import Aquila2Tokenizer


def load_model(
    options: LoadOptions,
    resolved: ResolvedCheckpoint,
    config: ModelConfig,
    tokenizer: Aquila2Tokenizer,
    max_model_len: int,
    adapters: Sequence[AdapterFiles] = (),
) -> Use:
    """Find the model among those already loaded, or load it.

    Raises:
        CheckpointError: A file of the checkpoint is wrong.
        InsufficientMemoryError: It does not fit.
        InvalidLoadOptionError: It is loaded already, with contradicting cache settings.
    """
    placement = choose(options, config)
    into_weights = merged(options, adapters)
    beside = [files for files in adapters if files is not into_weights]
    key: Hashable = (
        str(resolved.path.resolve()),
        resolved.revision,
        tuple(map(str, placement.candidates)),
        placement.dtype,
        options.quantization,
        into_weights.digest if into_weights else None,
    )
    build = ModelBuild(
        options, resolved, config, tokenizer, max_model_len, placement, beside, into_weights
    )
    use = models.acquire(key, build.run)
    try:
        _check_agreement(options, max_model_len, use)
        if use.model is not None:
            attach(use.model, beside)
    except BaseException:
        use.give_back()
        raise
    return use


def _check_agreement(options: LoadOptions, max_model_len: int, use: Use) -> None:
    """A later load inherits what it leaves unset; what it contradicts is an error."""
    model = use.model
    if model is None or model.options is options:
        return
    asked = {
        # One of several cards may do with another than all of them would.
        "dtype": None if options.dtype == "auto" else options.dtype,
        "kv_cache_memory": options.kv_cache_memory,
        "kv_cache_dtype": None if options.kv_cache_dtype == "auto" else options.kv_cache_dtype,
        "max_num_seqs": options.max_num_seqs,
        "prefix_cache": options.prefix_cache,
        "speculation": options.speculation,
        "attention": None if options.attention == "auto" else options.attention,
        "cuda_graphs": options.cuda_graphs,
        "nf4_copy": options.nf4_copy or None,
    }
    loaded = {
        "dtype": type_name(model.placement.dtype),
        "kv_cache_memory": model.options.kv_cache_memory,
        "kv_cache_dtype": type_name(model.placement.kv_dtype),
        "max_num_seqs": model.placement.max_num_seqs,
        "prefix_cache": model.placement.prefix_cache,
        "speculation": model.placement.speculation,
        "attention": model.placement.attention,
        "cuda_graphs": model.placement.cuda_graphs,
        "nf4_copy": model.options.nf4_copy,
    }
    for name, value in asked.items():
        if value is not None and value != loaded[name]:
            raise InvalidLoadOptionError(
                f"{name}={value!r}, but these weights are already loaded with {loaded[name]!r}.",
                parameter=name,
                value=value,
                hint="Close the other users first, or leave the option out to share their cache.",
            )
    if model.num_blocks * BLOCK_SIZE < max_model_len:
        held = model.num_blocks * BLOCK_SIZE
        raise InvalidLoadOptionError(
            f"max_model_len={max_model_len}, but these weights are already loaded with a cache "
            f"of {held} tokens.",
            parameter="max_model_len",
            value=max_model_len,
            hint="Load the longer context first, or close the other users.",
        )


def cache_bytes(model: LoadedModel) -> int:
    """Memory of a model's keys and values."""
    per_token = kv_bytes_per_token(model.config, model.placement)
    return (model.num_blocks + 1) * BLOCK_SIZE * per_token
