"""From load options to a loaded model: resolve, check, load, size the cache. It serves nothing."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import torch

from aquila2_runtime.checkpoint.memory import (
    available_memory,
    check_fits,
    estimate_memory,
)
from aquila2_runtime.checkpoint.verify import verify_weights
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.gathered import GatheredAttention
from aquila2_runtime.engine.decoder import Decoder
from aquila2_runtime.engine.kv_cache import BlockPool
from aquila2_runtime.engine.runner import Runner
from aquila2_runtime.engine.sampler import Sampler
from aquila2_runtime.engine.scheduler import Scheduler
from aquila2_runtime.engine.torch_engine import TorchEngine
from aquila2_runtime.errors import InvalidLoadOptionError
from aquila2_runtime.lora_adapters import add_to_bank, attach, merged
from aquila2_runtime.placement import (
    BLOCK_SIZE,
    Placement,
    cache_blocks,
    choose,
    kv_bytes_per_token,
    type_name,
)
from aquila2_runtime.registry import LoadedModel, Use, models

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.checkpoint.lora import AdapterFiles
    from aquila2_runtime.checkpoint.resolve import ResolvedCheckpoint
    from aquila2_runtime.engine.lora import LoraBank
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
        str(placement.device),
        placement.dtype,
        options.quantization,
        into_weights.digest if into_weights else None,
    )
    use = models.acquire(
        key,
        lambda: _build(
            options, resolved, config, tokenizer, max_model_len, placement, beside, into_weights
        ),
    )
    try:
        _check_agreement(options, max_model_len, use)
        if use.model is not None:
            attach(use.model, beside)
    except BaseException:
        use.give_back()
        raise
    return use


def _build(
    options: LoadOptions,
    resolved: ResolvedCheckpoint,
    config: ModelConfig,
    tokenizer: Aquila2Tokenizer,
    max_model_len: int,
    placement: Placement,
    adapters: Sequence[AdapterFiles],
    into_weights: AdapterFiles | None,
) -> LoadedModel:
    progress = options.progress
    if progress is not None:
        progress("checking", 0, None)
    # Everything that can be known without reading a weight is checked before one is read.
    files = verify_weights(resolved.path, config, allow_pickle=options.allow_pickle)
    estimate = estimate_memory(
        config,
        dtype=type_name(placement.dtype),
        kv_dtype=type_name(placement.kv_dtype),
        max_model_len=max_model_len,
        quantization=options.quantization,
    )
    check_fits(estimate, available_memory(str(placement.device)))
    sized: list[tuple[int, int, str, LoraBank]] = []

    def build() -> tuple[Runner, Scheduler]:
        model = load_weights(
            resolved.path,
            config,
            dtype=placement.dtype,
            device=placement.device,
            allow_pickle=options.allow_pickle,
            quantization=options.quantization,
            progress=progress,
            files=files,
            merge=into_weights,
        )
        weight_bytes = sum(
            parameter.numel() * parameter.element_size() for parameter in model.parameters()
        )
        decoder = Decoder(model, config, config.max_position)
        # Before the cache is sized by what is left.
        add_to_bank(decoder.adapters, adapters)
        free = available_memory(str(placement.device))
        blocks, reason = cache_blocks(options, config, placement, free, max_model_len)
        cache = PagedKVCache(
            num_layers=config.num_layers,
            num_blocks=blocks,
            block_size=BLOCK_SIZE,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            dtype=placement.kv_dtype,
            device=placement.device,
        )
        sized.append((blocks, weight_bytes, reason, decoder.adapters))
        pool = BlockPool(blocks, BLOCK_SIZE, prefix_cache=placement.prefix_cache)
        scheduler = Scheduler(
            pool,
            max_num_seqs=placement.max_num_seqs,
            max_step_tokens=placement.max_step_tokens,
            speculate=placement.speculation is not None,
        )
        sampler = Sampler(config.vocab_size, tokenizer.n_vocab)
        return Runner(decoder, GatheredAttention(cache), sampler), scheduler

    started = time.monotonic()
    engine = TorchEngine(build, name=resolved.name)
    blocks, weight_bytes, reason, bank = sized[0]
    if progress is not None:
        progress("ready", int(time.monotonic() - started), None)
    return LoadedModel(
        engine, tokenizer, config, placement, options, blocks, weight_bytes, reason, bank
    )


def _check_agreement(options: LoadOptions, max_model_len: int, use: Use) -> None:
    """A later load inherits what it leaves unset; what it contradicts is an error."""
    model = use.model
    if model is None or model.options is options:
        return
    asked = {
        "kv_cache_memory": options.kv_cache_memory,
        "kv_cache_dtype": None if options.kv_cache_dtype == "auto" else options.kv_cache_dtype,
        "max_num_seqs": options.max_num_seqs,
        "prefix_cache": options.prefix_cache,
        "speculation": options.speculation,
    }
    loaded = {
        "kv_cache_memory": model.options.kv_cache_memory,
        "kv_cache_dtype": type_name(model.placement.kv_dtype),
        "max_num_seqs": model.placement.max_num_seqs,
        "prefix_cache": model.placement.prefix_cache,
        "speculation": model.placement.speculation,
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
    per_token = kv_bytes_per_token(model.config, model.placement.kv_dtype)
    return (model.num_blocks + 1) * BLOCK_SIZE * per_token


def attention_name(device: torch.device) -> str:
    """The attention implementation in use."""
    return f"torch {torch.__version__.split('+')[0]} paged, {device.type}"
