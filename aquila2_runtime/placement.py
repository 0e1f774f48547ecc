"""Placement: where and in which types a load runs, and what that takes. It loads nothing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import torch

from aquila2_runtime.checkpoint.memory import (
    MemoryEstimate,
    estimate_memory,
)
from aquila2_runtime.checkpoint.prequantized import settle_form
from aquila2_runtime.device_types import (
    attention_of,
    candidates_of,
    dtype_of,
    graphs_of,
    kv_dtype_of,
    layout_of,
    refuse_graphs,
)
from aquila2_runtime.engine.stages import Stage, stages_of
from aquila2_runtime.engine.static_step import bucket_sizes

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.load_options import LoadOptions

BLOCK_SIZE: Final = 16
_CPU_STEP_TOKENS: Final = 512
_CUDA_STEP_TOKENS: Final = 2_048
# Beside streamed answers: what they wait for their next token grows with it. With much less, the
# prompt would take longer in all, for the weights are read again in every step. On a CPU the engine
# learns how many of these are too many.
_CPU_PREFILL_BESIDE: Final = 384
_CUDA_PREFILL_BESIDE: Final = 512
_NUM_SEQS: Final = 64
# Of the memory that weights leave on a GPU; the allocator needs some play.
_CUDA_KEEP: Final = 0.97


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

    @property
    def keep(self) -> float:
        """Share of the memory that weights leave which can be used."""
        return _CUDA_KEEP if self.device.type == "cuda" else 1.0

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
    candidates, reasons["device"] = candidates_of(options.device)
    device = candidates[0]
    dtype, reasons["dtype"] = dtype_of(options, config, candidates)
    reasons["weights"] = layout_of(options, config, device, dtype)
    kv_dtype, reasons["kv_cache_dtype"] = kv_dtype_of(options, device, dtype)
    attention, reasons["attention"] = attention_of(options, config, candidates, dtype, kv_dtype)
    graphs, reasons["cuda_graphs"] = graphs_of(options, device, attention)
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
        refuse_graphs(reason)
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
        keep=placement.keep,
    )
