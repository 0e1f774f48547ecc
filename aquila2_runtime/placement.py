"""Which devices and number types a load gets, each with its reason. It loads nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn

import torch

from aquila2_runtime.checkpoint.memory import (
    MemoryEstimate,
    estimate_memory,
)
from aquila2_runtime.checkpoint.prequantized import settle_form
from aquila2_runtime.engine.attention.select import choose_attention
from aquila2_runtime.engine.linear import multiplies_bfloat16, packing_of
from aquila2_runtime.engine.stages import Stage, stages_of
from aquila2_runtime.engine.static_step import bucket_sizes
from aquila2_runtime.errors import InvalidLoadOptionError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.load_options import LoadOptions

BLOCK_SIZE: Final = 16
# On CPU fp32 costs little below this many parameters.
_SMALL_MODEL: Final = 500_000_000
_CPU_STEP_TOKENS: Final = 512
_CUDA_STEP_TOKENS: Final = 2_048
# Beside streamed answers: what they wait for their next token grows with it. With much less, the
# prompt would take longer in all, for the weights are read again in every step. On a CPU the engine
# learns how many of these are too many.
_CPU_PREFILL_BESIDE: Final = 384
_CUDA_PREFILL_BESIDE: Final = 512
_NUM_SEQS: Final = 64
# The compute capability of the first GPUs that multiply bfloat16.
_BFLOAT16_FROM: Final = (8, 0)


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """Where and in which types a model runs.

    Attributes:
        device: Torch device; the first one where there are several.
        candidates: Devices that may be used; which of them are is settled by their free memory.
        stages: Which layers are where.
        dtype: Of weights and hidden states.
        kv_dtype: Of keys and values.
        max_num_seqs: Most requests computed at once.
        max_step_tokens: Most tokens computed in one step.
        max_prefill_beside_decode: Most prompt tokens of a step in which a streamed answer goes on.
        prefix_cache: Whether shared prefixes are computed once.
        speculation: "ngram" or None.
        attention: Name of the attention implementation.
        cuda_graphs: Whether decoding steps are captured and replayed.
        reasons: Why, by name.
    """

    device: torch.device
    candidates: tuple[torch.device, ...]
    stages: tuple[Stage, ...]
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

    @property
    def kv_columns(self) -> bool:
        """Whether keys are kept a second time, in columns (see ``engine.attention.columns``)."""
        return self.attention == "runs" and self.kv_dtype == torch.bfloat16

    def on(self, device: torch.device, config: ModelConfig, reason: str) -> Placement:
        """The same on one of the candidates alone, and why."""
        return dataclasses.replace(
            self,
            device=device,
            stages=stages_of([device], [config.num_layers]),
            reasons=self.reasons | {"device": reason},
        )


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
    candidates, reasons["device"] = _candidates(options.device)
    device = candidates[0]
    dtype, reasons["dtype"] = _dtype(options, config, candidates)
    reasons["weights"] = _layout(options, config, device, dtype)
    kv_dtype, reasons["kv_cache_dtype"] = _kv_dtype(options, device, dtype)
    attention, reasons["attention"] = _attention(options, config, candidates, dtype, kv_dtype)
    graphs, reasons["cuda_graphs"] = _graphs(options, device, attention)
    on_cuda = device.type == "cuda"
    return Placement(
        device=device,
        candidates=candidates,
        stages=stages_of([device], [config.num_layers]),
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


def on_several(options: LoadOptions, placement: Placement) -> Placement:
    """The placement for layers on several devices, whose steps cannot be captured.

    Raises:
        InvalidLoadOptionError: Captured steps were asked for.
    """
    reason = "layers on several devices are launched one by one"
    if options.cuda_graphs:
        _refuse_graphs(reason)
    return dataclasses.replace(
        placement, cuda_graphs=False, reasons=placement.reasons | {"cuda_graphs": reason}
    )


def type_name(dtype: torch.dtype) -> str:
    """``torch.float32`` as "float32"."""
    return str(dtype).removeprefix("torch.")


def estimate(
    options: LoadOptions,
    config: ModelConfig,
    placement: Placement,
    max_model_len: int,
    kv_tokens: int | None = None,
    adapters: int = 0,
) -> MemoryEstimate:
    """Estimate a load's memory where it is placed.

    Args:
        options: What was asked for.
        config: The checkpoint.
        placement: Its place.
        max_model_len: The longest request, in tokens.
        kv_tokens: Tokens the cache holds; None is one request of full length.
        adapters: Bytes of the LoRA adapters beside the weights.
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
        # On CPU there are kernels for any number of rows.
        unpacks=placement.device.type == "cuda",
        adapters=adapters,
        kv_columns=placement.kv_columns,
    )


def visible_gpus() -> tuple[torch.device, ...]:
    """The CUDA devices that torch sees."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return tuple(torch.device("cuda", index) for index in range(count))


def _candidates(asked: str | Sequence[str]) -> tuple[tuple[torch.device, ...], str]:
    gpus = visible_gpus()
    if asked == "auto":
        if not gpus:
            return (torch.device("cpu"),), "torch sees no CUDA device"
        return gpus, "a CUDA device was found" if len(gpus) == 1 else f"{len(gpus)} were found"
    if asked == "cpu":
        return (torch.device("cpu"),), "asked for"
    chosen = []
    for name in (asked,) if isinstance(asked, str) else asked:
        index = int(name.partition(":")[2] or 0)
        if index >= len(gpus):
            raise InvalidLoadOptionError(
                f"device={name!r}, but torch sees {len(gpus)} CUDA devices.",
                parameter="device",
                value=name,
                hint='Use device="cpu", or install a torch build that supports your GPU.',
            )
        chosen.append(gpus[index])
    return tuple(chosen), "asked for"


def _attention(
    options: LoadOptions,
    config: ModelConfig,
    devices: Sequence[torch.device],
    dtype: torch.dtype,
    kv_dtype: torch.dtype,
) -> tuple[str, str]:
    """One implementation for all devices, and why."""
    found = [
        choose_attention(
            options.attention,
            device=device,
            dtype=dtype,
            kv_dtype=kv_dtype,
            head_dim=config.head_dim,
        )
        for device in devices
    ]
    if len({name for name, _ in found}) > 1:
        return "gathered", "the devices do not all run the same kernels"
    return found[0]


def _dtype(
    options: LoadOptions, config: ModelConfig, devices: Sequence[torch.device]
) -> tuple[torch.dtype, str]:
    if options.dtype != "auto":
        return _named(options.dtype), "asked for"
    if devices[0].type == "cpu":
        if config.num_parameters < _SMALL_MODEL:
            return torch.float32, "a small model on CPU, where float32 costs little"
        return torch.bfloat16, "half the memory of float32 on CPU, and float16 is slow there"
    if config.torch_dtype == "float16":
        return torch.float16, "the checkpoint's own"
    # Older ones emulate it, which torch calls supported.
    if any(torch.cuda.get_device_capability(device) < _BFLOAT16_FROM for device in devices):
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
    if device.type == "cpu" and dtype == torch.bfloat16 and multiplies_bfloat16():
        return dtype, "the weights' own; answers read keys from a copy in columns"
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
        _refuse_graphs(obstacle)
    if options.cuda_graphs is not None:
        return options.cuda_graphs, "asked for"
    return obstacle is None, obstacle or "one launch a step instead of hundreds"


def _refuse_graphs(obstacle: str) -> NoReturn:
    raise InvalidLoadOptionError(
        f"cuda_graphs=True does not work here: {obstacle}.",
        parameter="cuda_graphs",
        value=True,
        hint="Leave it at None.",
    )


def _named(name: str) -> torch.dtype:
    return {
        "float32": torch.float32,
        "float16": torch.float16,
        "bfloat16": torch.bfloat16,
        "int8": torch.int8,
    }[name]
