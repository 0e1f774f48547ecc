"""Agreement of the runtime's forward pass with transformers' Llama on the device's own kernels."""

from __future__ import annotations

from typing import Any

import torch

from aquila2_runtime.checkpoint.config import ModelConfig
from aquila2_runtime.engine.attention.base import Attention
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.plan import AttentionPlan, PrefillSegment
from aquila2_runtime.engine.attention.select import make_attention
from aquila2_runtime.engine.decoder import Decoder
from aquila2_runtime.load_options import LoadOptions
from aquila2_runtime.model_parts import make_decoder
from aquila2_runtime.placement import BLOCK_SIZE, choose
from benchmarks.gpu_measure import random_ids
from benchmarks.gpu_models import random_model, shape

LAYERS = 4
TOKENS = 700
CHUNK = 256
DECODED = 60


def measure(device: torch.device, *, tiny: bool) -> dict[str, Any]:
    """Logits of a few layers in the released widths: prompt in chunks, then token by token."""
    import dataclasses

    found: dict[str, Any] = {}
    for size in ("tiny",) if tiny else ("7b", "34b"):
        whole = shape(size, 2_048)
        config = dataclasses.replace(whole, num_layers=min(whole.num_layers, LAYERS))
        for kv_dtype in ("auto", "int8"):
            found[f"{size} {kv_dtype}"] = _compare(config, device, kv_dtype, tiny=tiny)
            print(size, kv_dtype, found[f"{size} {kv_dtype}"], flush=True)
    return {"agreement": found}


def _compare(
    config: ModelConfig, device: torch.device, kv_dtype: str, *, tiny: bool
) -> dict[str, float]:
    tokens = 90 if tiny else TOKENS
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    model = random_model(config, device, dtype)
    ids = random_ids(tokens, config.vocab_size, 1)
    with torch.inference_mode():
        right = model(torch.tensor([ids], device=device)).logits[0].float()
        wide = model.float()(torch.tensor([ids], device=device)).logits[0]
    model.to(dtype)
    options = LoadOptions(
        model="random", device=str(device), kv_cache_dtype=kv_dtype,
        dtype="auto" if device.type == "cuda" else "float32",
    )  # fmt: skip
    placement = choose(options, config)
    decoder = make_decoder(model, config, placement)
    cache = PagedKVCache(
        num_layers=config.num_layers, num_blocks=tokens // BLOCK_SIZE + 1, block_size=BLOCK_SIZE,
        num_kv_heads=config.num_kv_heads, head_dim=config.head_dim, dtype=placement.kv_dtype,
        device=device,
    )  # fmt: skip
    attention = make_attention(placement.attention, cache, placement.dtype)
    ours = torch.cat(
        [_logits(decoder, attention, ids[:end], start) for start, end in _spans(tokens)]
    )
    return {
        "ours_to_fp32": _distance(ours, wide),
        "transformers_to_fp32": _distance(right, wide),
        "ours_to_transformers": _distance(ours, right),
        "same_likeliest": float((ours.argmax(-1) == right.argmax(-1)).float().mean()),
    }


def _spans(tokens: int) -> list[tuple[int, int]]:
    """Chunks of a prompt, and then single tokens."""
    prompt = tokens - min(DECODED, tokens // 3)
    starts = [*range(0, prompt, CHUNK), *range(prompt, tokens)]
    ends = [*[min(start + CHUNK, prompt) for start in range(0, prompt, CHUNK)],
            *range(prompt + 1, tokens + 1)]  # fmt: skip
    return list(zip(starts, ends, strict=True))


def _logits(decoder: Decoder, attention: Attention, ids: list[int], start: int) -> torch.Tensor:
    device, end = decoder.device, len(ids)
    at = torch.arange(start, end, device=device)
    blocks = torch.arange(1, -(-end // BLOCK_SIZE) + 1, device=device)
    slots = blocks[at // BLOCK_SIZE] * BLOCK_SIZE + at % BLOCK_SIZE
    if end - start == 1:
        lengths = torch.tensor([end], device=device, dtype=torch.int32)
        hidden = torch.arange(len(blocks) * BLOCK_SIZE, device=device)[None] >= end
        mask = torch.zeros(hidden.shape, device=device).masked_fill(hidden, float("-inf"))
        plan = AttentionPlan(slots, 1, blocks[None], mask, (), lengths)
    else:
        segment = PrefillSegment(0, end - start, end, blocks)
        plan = AttentionPlan(slots, 0, None, None, (segment,))
    given = torch.tensor(ids[start:], device=device)
    return decoder.logits(decoder.forward(given, at, attention, plan))


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm())
