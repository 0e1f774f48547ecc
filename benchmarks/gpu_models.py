"""Engines with random weights in the released shapes, made on the device. They know nothing to say.

Speed does not depend on what weights hold. They are drawn where they are used, layer by layer, so
that a 34B needs no files and no minutes; 4-bit ones are packed as soon as they are drawn.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from aquila2_runtime.cache_size import cache_blocks
from aquila2_runtime.checkpoint.config import ModelConfig, parse_config
from aquila2_runtime.checkpoint.free_memory import available_memory
from aquila2_runtime.checkpoint.memory import MemoryEstimate
from aquila2_runtime.checkpoint.register import AquilaConfig, AquilaForCausalLM, register
from aquila2_runtime.engine.ahead_runner import WORTH_A_PLAIN_STEP, AheadRunner
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.select import make_attention
from aquila2_runtime.engine.faults import empty_device_cache
from aquila2_runtime.engine.kv_cache import BlockPool
from aquila2_runtime.engine.runner import Runner
from aquila2_runtime.engine.sampler import Sampler
from aquila2_runtime.engine.scheduler import Scheduler
from aquila2_runtime.engine.torch_engine import TorchEngine
from aquila2_runtime.load_options import LoadOptions
from aquila2_runtime.model_parts import make_decoder, make_runner
from aquila2_runtime.placement import BLOCK_SIZE, Placement, choose, estimate

_SIZES = {
    "7b": (4096, 11008, 32, 32, 32, 100_008),
    "34b": (6144, 24576, 60, 48, 8, 100_008),
    "tiny": (64, 128, 2, 4, 2, 2_048),
}


@dataclasses.dataclass
class Bench:
    """An engine and what is known of it."""

    engine: TorchEngine
    config: ModelConfig
    placement: Placement
    estimate: MemoryEstimate
    runner: Runner
    tokens: int


def shape(name: str, context: int) -> ModelConfig:
    """A released shape with room for ``context`` tokens."""
    hidden, inner, layers, heads, kv_heads, vocab = _SIZES[name]
    return parse_config(
        {
            "architectures": ["AquilaForCausalLM"],
            "model_type": "aquila",
            "hidden_act": "silu",
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "max_position_embeddings": context,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "vocab_size": vocab,
            "bos_token_id": vocab - 2,
            "eos_token_id": vocab - 1,
            "pad_token_id": 0,
        }
    )


def random_model(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Any:
    """A transformers model of random weights on the device."""
    register()
    with torch.device("meta"):
        model = AquilaForCausalLM(AquilaConfig.of(config)).to(dtype)
    model = model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, 0.02, generator=generator)
    _remake_frequencies(model, device)
    return model.requires_grad_(False).eval()


def random_nf4_model(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Any:
    """The same with packed projections; no layer's weights are there twice."""
    import bitsandbytes as bnb

    register()
    with torch.device("meta"):
        model = AquilaForCausalLM(AquilaConfig.of(config)).to(dtype)
    generator = torch.Generator(device).manual_seed(0)
    for name, module in list(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or name == "lm_head":
            continue
        outputs, inputs = module.weight.shape
        drawn = torch.empty(outputs, inputs, dtype=dtype, device=device)
        drawn.normal_(0.0, 0.02, generator=generator)
        packed = bnb.nn.Linear4bit(
            inputs, outputs, bias=False, compute_dtype=dtype, quant_type="nf4", device="meta"
        )
        packed.weight = bnb.nn.Params4bit(drawn, requires_grad=False, quant_type="nf4").to(device)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, packed)
    for name, parameter in list(model.named_parameters()):
        if parameter.is_meta:
            parent, _, last = name.rpartition(".")
            filled = torch.empty(parameter.shape, dtype=dtype, device=device)
            filled.fill_(1.0) if filled.dim() == 1 else filled.normal_(0, 0.02, generator=generator)
            own = torch.nn.Parameter(filled, requires_grad=False)
            setattr(model.get_submodule(parent), last, own)
    _remake_frequencies(model, device)
    return model.eval()


def _remake_frequencies(model: Any, device: torch.device) -> None:
    """Make the table that is no parameter, and was left empty."""
    inner = model.get_submodule("model")
    with torch.device(device):
        inner.rotary_emb = type(inner.rotary_emb)(model.config)


def start_engine(
    model: Any,
    config: ModelConfig,
    options: LoadOptions,
    length: int,
    *,
    cascade: bool = True,
    most_tokens: int | None = None,
) -> Bench:
    """An engine over a model, which is emptied.

    Args:
        model: From ``random_model`` or ``random_nf4_model``.
        config: Its shape.
        options: As for loading.
        length: Tokens of the longest request.
        cascade: Whether shared prefixes are read once.
        most_tokens: Of the cache; None is what fits.
    """
    placement = choose(options, config)
    needed = estimate(options, config, placement, length)
    made: list[tuple[Runner, int]] = []

    def build() -> tuple[Runner, Scheduler]:
        on_cuda = placement.device.type == "cuda"
        if on_cuda:
            torch.cuda.set_device(placement.device)
        decoder = make_decoder(model, config, placement, nf4_copy=options.nf4_copy)
        empty_device_cache()
        free = available_memory(str(placement.device))
        blocks, _ = cache_blocks(options, config, placement, free, length, needed.reserve)
        if most_tokens is not None:
            blocks = min(blocks, most_tokens // BLOCK_SIZE)
        cache = PagedKVCache(
            num_layers=config.num_layers,
            num_blocks=blocks,
            block_size=BLOCK_SIZE,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            dtype=placement.kv_dtype,
            device=placement.device,
        )
        sampler = Sampler(config.vocab_size, config.vocab_size)
        if on_cuda:
            runner = make_runner(decoder, cache, sampler, placement)
        else:
            # The same control flow, with steps run as they are in place of captured ones.
            runner = AheadRunner(
                decoder,
                make_attention("gathered", cache, placement.dtype),
                sampler,
                max_num_seqs=placement.max_num_seqs,
                max_model_len=length,
                n_ids=config.vocab_size,
                capture=False,
            )
        set_cascade(runner, cascade)
        made.append((runner, blocks * BLOCK_SIZE))
        scheduler = Scheduler(
            BlockPool(blocks, BLOCK_SIZE),
            max_num_seqs=placement.max_num_seqs,
            max_step_tokens=placement.max_step_tokens,
            max_prefill_beside_decode=placement.max_prefill_beside_decode,
            ahead=isinstance(runner, AheadRunner),
        )
        return runner, scheduler

    engine = TorchEngine(build, name="bench")
    runner, tokens = made[0]
    total = estimate(options, config, placement, length, kv_tokens=tokens + BLOCK_SIZE)
    return Bench(engine, config, placement, total, runner, tokens)


def set_cascade(runner: Runner, on: bool) -> None:
    """Have shared prefixes read once wherever there are any, or never."""
    runner.planner._cascades = on
    if isinstance(runner, AheadRunner):
        runner._worth = WORTH_A_PLAIN_STEP / runner._attention.cache.token_bytes
