"""Which device, number type and cache size a load gets, each with its reason. It loads nothing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import torch

from aquila2_runtime.checkpoint.memory import (
    MemoryEstimate,
    estimate_memory,
    kv_token_bytes,
)
from aquila2_runtime.checkpoint.prequantized import settle_form
from aquila2_runtime.engine.attention.select import choose_attention
from aquila2_runtime.engine.linear import packing_of
from aquila2_runtime.engine.static_step import bucket_sizes
from aquila2_runtime.errors import InsufficientMemoryError, InvalidLoadOptionError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.load_options import LoadOptions

BLOCK_SIZE: Final = 16
# On CPU below this many parameters fp32 costs little and makes batches reproducible to the id.
_SMALL_MODEL: Final = 500_000_000
_CPU_CACHE_BYTES: Final = 512 * 2**20
_CUDA_KEEP: Final = 0.97  # of the memory left after the weights; the allocator needs some play
_CPU_STEP_TOKENS: Final = 512
_CUDA_STEP_TOKENS: Final = 2_048
# Beside decoding requests: what they wait for their next token grows with it. With much less, the
# prompt would take longer in all, for the weights are read again in every step.
_CPU_PREFILL_BESIDE: Final = 128
_CUDA_PREFILL_BESIDE: Final = 512
_NUM_SEQS: Final = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """Where and in which types a model runs.

    Attributes:
        device: Torch device.
        dtype: Of weights and hidden states.
        kv_dtype: Of keys and values.
        max_num_seqs: Most requests computed at once.
        max_step_tokens: Most tokens computed in one step.
        max_prefill_beside_decode: Most prompt tokens of a step in which other requests decode.
        prefix_cache: Whether shared prefixes are computed once.
        speculation: "ngram" or None.
        attention: Name of the attention implementation.
        cuda_graphs: Whether decoding steps are captured and replayed.
        reasons: Why, by name.
    """

    device: torch.device
    dtype: torch.dtype
    kv_dtype: torch.dtype
    max_num_seqs: int
    max_step_tokens: int
    max_prefill_beside_decode: int
    prefix_cache: bool
    speculation: str | None
    attention: str
    cuda_graphs: bool
    reasons: dict[str, str]


def with_stored_form(options: LoadOptions, config: ModelConfig) -> LoadOptions:
    """The options, with the quantization that the files have where bitsandbytes packed them.

    Raises:
        InvalidLoadOptionError: Another one was asked for, or an adapter is to be merged into it.
    """
    form = settle_form(config.prequantized, options.quantization, options.merge_adapter)
    if form == options.quantization:
        return options
    return dataclasses.replace(options, quantization=form)


def choose(options: LoadOptions, config: ModelConfig) -> Placement:
    """Settle device and types.

    Raises:
        InvalidLoadOptionError: The device does not exist, or the type does not run there.
    """
    reasons: dict[str, str] = {}
    device, reasons["device"] = _device(options.device)
    dtype, reasons["dtype"] = _dtype(options, config, device)
    reasons["weights"] = _layout(options, config, device, dtype)
    kv_dtype, reasons["kv_cache_dtype"] = _kv_dtype(options, device, dtype)
    attention, reasons["attention"] = choose_attention(
        options.attention,
        device=device,
        dtype=dtype,
        kv_dtype=kv_dtype,
        head_dim=config.head_dim,
    )
    graphs, reasons["cuda_graphs"] = _graphs(options, device, attention)
    on_cuda = device.type == "cuda"
    return Placement(
        device=device,
        dtype=dtype,
        kv_dtype=kv_dtype,
        max_num_seqs=options.max_num_seqs or _NUM_SEQS,
        max_step_tokens=_CUDA_STEP_TOKENS if on_cuda else _CPU_STEP_TOKENS,
        max_prefill_beside_decode=_CUDA_PREFILL_BESIDE if on_cuda else _CPU_PREFILL_BESIDE,
        prefix_cache=options.prefix_cache is not False,
        speculation=options.speculation,
        attention=attention,
        cuda_graphs=graphs,
        reasons=reasons,
    )


def type_name(dtype: torch.dtype) -> str:
    """``torch.float32`` as "float32"."""
    return str(dtype).removeprefix("torch.")


def kv_bytes_per_token(config: ModelConfig, kv_dtype: torch.dtype) -> int:
    """Bytes of one token's keys and values over all layers."""
    return kv_token_bytes(config, kv_dtype.itemsize)


def estimate(
    options: LoadOptions,
    config: ModelConfig,
    placement: Placement,
    max_model_len: int,
    kv_tokens: int | None = None,
) -> MemoryEstimate:
    """Estimate a load's memory where it is placed.

    Args:
        options: What was asked for.
        config: The checkpoint.
        placement: Its place.
        max_model_len: The longest request, in tokens.
        kv_tokens: Tokens the cache holds; None is one request of full length.
    """
    return estimate_memory(
        config,
        dtype=type_name(placement.dtype),
        kv_dtype=type_name(placement.kv_dtype),
        max_model_len=max_model_len,
        quantization=options.quantization,
        kv_tokens=kv_tokens,
        rows=placement.max_num_seqs,
        step_tokens=placement.max_step_tokens,
        # A greedy step and a mixed one of each size.
        graphs=2 * len(bucket_sizes(placement.max_num_seqs)) if placement.cuda_graphs else 0,
        nf4_copy=options.nf4_copy,
    )


def cache_blocks(
    options: LoadOptions,
    config: ModelConfig,
    placement: Placement,
    free_bytes: int,
    max_model_len: int,
    reserve: int = 0,
) -> tuple[int, str]:
    """How many KV blocks to make, and why.

    Args:
        options: What was asked for.
        config: The checkpoint.
        placement: Its place.
        free_bytes: Memory the device has left now that the weights are loaded.
        max_model_len: The longest request, in tokens.
        reserve: Bytes of it that steps need on CUDA.

    Raises:
        InsufficientMemoryError: Not even one request of full length fits.
    """
    block = kv_bytes_per_token(config, placement.kv_dtype) * BLOCK_SIZE
    one = -(-max_model_len // BLOCK_SIZE)
    most = one * placement.max_num_seqs
    asked = options.kv_cache_bytes
    if asked is not None:
        budget, reason = asked, "kv_cache_memory was given"
    elif placement.device.type == "cuda":
        free_bytes = max(int(free_bytes * _CUDA_KEEP) - reserve, 0)
        budget, reason = free_bytes, "what weights, workspace and captured steps leave"
    else:
        budget = max(_CPU_CACHE_BYTES, one * block)
        reason = "512 MiB, or one full context where that is more"
    # The padding block comes on top of what requests hold.
    blocks = min(budget // block - 1 if asked is not None else budget // block, most)
    if blocks < one or (asked is None and blocks * block > free_bytes):
        spare = 1 if asked is not None else 0
        fits = max(min(budget, free_bytes) // block - spare, 0) * BLOCK_SIZE
        raise InsufficientMemoryError(
            f"Keys and values of {max_model_len} tokens need {(one + 1) * block / 2**20:.1f} MiB; "
            f"{min(budget, free_bytes) / 2**20:.1f} MiB are there.",
            parameter="kv_cache_memory" if asked is not None else "max_model_len",
            value=asked if asked is not None else max_model_len,
            hint=(f"Load with max_model_len={fits} or less, or give" if fits else "Give")
            + " kv_cache_memory more room.",
        )
    if blocks == most:
        reason = f"max_num_seqs={placement.max_num_seqs} requests of full length"
    return blocks, reason


def _device(asked: str) -> tuple[torch.device, str]:
    cuda = torch.cuda.is_available()
    if asked == "auto":
        if cuda:
            return torch.device("cuda:0"), "a CUDA device was found"
        return torch.device("cpu"), "torch sees no CUDA device"
    device = torch.device("cuda:0" if asked == "cuda" else asked)
    if device.type == "cuda":
        count = torch.cuda.device_count() if cuda else 0
        if (device.index or 0) >= count:
            raise InvalidLoadOptionError(
                f"device={asked!r}, but torch sees {count} CUDA devices.",
                parameter="device",
                value=asked,
                hint='Use device="cpu", or install a torch build that supports your GPU.',
            )
    return device, "asked for"


def _dtype(
    options: LoadOptions, config: ModelConfig, device: torch.device
) -> tuple[torch.dtype, str]:
    if options.dtype != "auto":
        return _named(options.dtype), "asked for"
    if device.type == "cpu":
        if config.num_parameters < _SMALL_MODEL:
            return torch.float32, "a small model on CPU; exact to the id in any batch"
        return torch.bfloat16, "half the memory of float32 on CPU, and float16 is slow there"
    if config.torch_dtype == "float16":
        return torch.float16, "the checkpoint's own"
    if not torch.cuda.is_bf16_supported():
        return torch.float16, "this GPU has no bfloat16"
    return torch.bfloat16, "the checkpoint's own" if config.torch_dtype == "bfloat16" else (
        "half the memory of float32"
    )


def _layout(
    options: LoadOptions, config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> str:
    """In which form the projections' weights are held, and why."""
    if options.quantization is not None:
        stored = config.prequantized is not None
        return f"{options.quantization}, " + ("as it is stored" if stored else "asked for")
    if device.type != "cpu":
        return "plain, as CUDA's products read them"
    obstacle = packing_of(dtype)
    return "packed for oneDNN" if obstacle is None else f"plain: {obstacle}"


def _kv_dtype(
    options: LoadOptions, device: torch.device, dtype: torch.dtype
) -> tuple[torch.dtype, str]:
    if options.kv_cache_dtype not in (None, "auto"):
        return _named(str(options.kv_cache_dtype)), "asked for"
    if device.type == "cpu":
        return torch.float32, "on CPU attention runs in float32 without converting the cache"
    return dtype, "the weights' own"


def _graphs(options: LoadOptions, device: torch.device, attention: str) -> tuple[bool, str]:
    obstacle = None
    if device.type != "cuda":
        obstacle = "steps are captured on CUDA only"
    elif attention == "gathered":
        obstacle = "the attention in use reads whole block tables"
    elif options.quantization == "int8":
        obstacle = "int8 products ask the host about outliers"
    if options.cuda_graphs and obstacle is not None:
        raise InvalidLoadOptionError(
            f"cuda_graphs=True does not work here: {obstacle}.",
            parameter="cuda_graphs",
            value=True,
            hint="Leave it at None.",
        )
    if options.cuda_graphs is not None:
        return options.cuda_graphs, "asked for"
    return obstacle is None, obstacle or "one launch a step instead of hundreds"


def _named(name: str) -> torch.dtype:
    return {
        "float32": torch.float32,
        "float16": torch.float16,
        "bfloat16": torch.bfloat16,
        "int8": torch.int8,
    }[name]
