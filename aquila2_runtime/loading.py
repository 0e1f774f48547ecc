"""From load options to a loaded model: resolve, check, load, size the cache. It serves nothing."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import torch

from aquila2_runtime.checkpoint.memory import available_memory, check_fits
from aquila2_runtime.checkpoint.verify import verify_weights
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.engine.ahead_runner import AheadRunner
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.select import make_attention
from aquila2_runtime.engine.decoder import Decoder
from aquila2_runtime.engine.faults import empty_device_cache
from aquila2_runtime.engine.heap import keep_freed_memory
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
    estimate,
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

_log = logging.getLogger(__name__)


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
    if config.packing is not None:
        _log.warning(
            "%s holds %s weights: they are unpacked into %s as they are loaded, which takes that "
            "much memory. quantization=\"nf4\" packs them again.",
            resolved.name,
            config.packing.label,
            options.quantization or type_name(placement.dtype),
        )
    needed = estimate(options, config, placement, max_model_len)
    _log.info("%s needs on %s:\n%s", resolved.name, placement.device, needed.table())
    for name in ("attention", "cuda_graphs"):
        _log.info("%s: %s (%s)", name, getattr(placement, name), placement.reasons[name])
    check_fits(needed, available_memory(str(placement.device)))
    sized: list[tuple[int, int, str, LoraBank]] = []
    captured: list[bool] = []

    def build() -> tuple[Runner, Scheduler]:
        if placement.device.type == "cuda":
            # Of this thread alone; kernels are launched where it points.
            torch.cuda.set_device(placement.device)
        else:
            keep_freed_memory()
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
        decoder = make_decoder(model, config, placement, nf4_copy=options.nf4_copy)
        # Before the cache is sized by what is left.
        add_to_bank(decoder.adapters, adapters)
        del model
        # What the fused weights replaced is given back, so that it counts as free.
        empty_device_cache()
        free = available_memory(str(placement.device))
        blocks, reason = cache_blocks(
            options, config, placement, free, max_model_len, needed.reserve
        )
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
        sampler = Sampler(config.vocab_size, tokenizer.n_vocab)
        runner = make_runner(decoder, cache, sampler, placement)
        captured.append(isinstance(runner, AheadRunner))
        pool = BlockPool(blocks, BLOCK_SIZE, prefix_cache=placement.prefix_cache)
        scheduler = Scheduler(
            pool,
            max_num_seqs=placement.max_num_seqs,
            max_step_tokens=placement.max_step_tokens,
            max_prefill_beside_decode=placement.max_prefill_beside_decode,
            speculate=placement.speculation is not None,
            ahead=captured[0],
        )
        return runner, scheduler

    started = time.monotonic()
    engine = TorchEngine(build, name=resolved.name)
    blocks, weight_bytes, reason, bank = sized[0]
    placement = dataclasses.replace(placement, cuda_graphs=captured[0])
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
        "attention": None if options.attention == "auto" else options.attention,
        "cuda_graphs": options.cuda_graphs,
        "nf4_copy": options.nf4_copy or None,
    }
    loaded = {
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


def make_decoder(
    model: torch.nn.Module, config: ModelConfig, placement: Placement, *, nf4_copy: bool = False
) -> Decoder:
    """The forward pass, its operations fused where the attention's kernels run.

    Args:
        model: Loaded; emptied.
        config: The checkpoint.
        placement: Its place.
        nf4_copy: Whether packed projections are kept in 16 bits too.
    """
    pointwise = None
    if placement.attention in ("paged", "flash-attn"):
        # Imported here: Triton is not everywhere.
        from aquila2_runtime.engine.fused_pointwise import FusedPointwise

        pointwise = FusedPointwise(config.rms_norm_eps, placement.dtype, placement.device)
    return Decoder(model, config, config.max_position, pointwise, nf4_copy=nf4_copy)


def make_runner(
    decoder: Decoder, cache: PagedKVCache, sampler: Sampler, placement: Placement
) -> Runner:
    """The runner; with captured steps where they were chosen and can be captured."""
    attention = make_attention(placement.attention, cache, placement.dtype)
    if not placement.cuda_graphs:
        return Runner(decoder, attention, sampler)
    # Later users of these weights may have longer requests, up to what the cache holds.
    held = (cache.keys[0].shape[1] - 1) * cache.block_size
    try:
        return AheadRunner(
            decoder,
            attention,
            sampler,
            max_num_seqs=placement.max_num_seqs,
            max_model_len=min(decoder.config.max_position, held),
            n_ids=sampler.n_decodable,
            capture=True,
        )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        placement.reasons["cuda_graphs"] = f"off, as capturing failed: {error}"
        _log.warning("decoding steps of %s could not be captured: %s", placement.device, error)
        return Runner(decoder, attention, sampler)


def cache_bytes(model: LoadedModel) -> int:
    """Memory of a model's keys and values."""
    per_token = kv_bytes_per_token(model.config, model.placement.kv_dtype)
    return (model.num_blocks + 1) * BLOCK_SIZE * per_token
