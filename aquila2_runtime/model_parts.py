"""The parts of a running model, each made from its placement. Which belong together it leaves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from aquila2_runtime.engine.ahead_runner import AheadRunner
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.select import make_attention
from aquila2_runtime.engine.attention.split import SplitAttention
from aquila2_runtime.engine.decoder import Decoder
from aquila2_runtime.engine.faults import is_lost
from aquila2_runtime.engine.runner import Runner
from aquila2_runtime.placement import BLOCK_SIZE, Placement

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.engine.sampler import Sampler

_log = logging.getLogger(__name__)


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
    return Decoder(
        model,
        config,
        config.max_position,
        pointwise,
        nf4_copy=nf4_copy,
        stages=placement.stages,
    )


def make_caches(config: ModelConfig, placement: Placement, blocks: int) -> list[PagedKVCache]:
    """Room for keys and values: of every stage's layers, beside them.

    Args:
        config: The checkpoint.
        placement: Its place.
        blocks: Blocks of each.
    """
    return [
        PagedKVCache(
            num_layers=stage.count,
            num_blocks=blocks,
            block_size=BLOCK_SIZE,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            dtype=placement.kv_dtype,
            device=stage.device,
            columns=placement.kv_columns,
        )
        for stage in placement.stages
    ]


def split_attention(caches: Sequence[PagedKVCache], placement: Placement) -> SplitAttention:
    """Attention over the caches of several stages."""
    parts = [make_attention(placement.attention, cache, placement.dtype) for cache in caches]
    return SplitAttention(placement.stages, parts)


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
        if is_lost(placement.device):
            raise
        placement.reasons["cuda_graphs"] = f"off, as capturing failed: {error}"
        _log.warning("decoding steps of %s could not be captured: %s", placement.device, error)
        return Runner(decoder, attention, sampler)
