"""Checkpoints for benchmarks: random weights in the released layout. They know nothing to say.

Speed does not depend on what weights hold, so these are drawn, not trained: bf16 in safetensors,
with a config.json as the released repositories have it and a byte-level tokenizer that loads in
this runtime and in others.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CONTROL = (
    "<|startofpiece|>",
    "<|endofpiece|>",
    "<|LDWANG|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "[CLS]",
    "</s>",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a checkpoint."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocab: int
    context: int = 8_192


SHAPES = {
    "25M": Shape(hidden=384, layers=8, heads=6, inner=1_536, vocab=8_192),
    "25M-16K": Shape(hidden=384, layers=8, heads=6, inner=1_536, vocab=8_192, context=16_384),
    "350M": Shape(hidden=1_024, layers=24, heads=16, inner=2_560, vocab=32_000),
    # Kernels cost next to nothing here, so a step is what surrounds them.
    "narrow": Shape(hidden=64, layers=32, heads=4, inner=256, vocab=1_024, context=2_048),
}


def checkpoint(name: str, directory: Path) -> Path:
    """Make a checkpoint of one of ``SHAPES`` unless it is there; returns its directory."""
    path = directory / f"bench-{name}"
    if not (path / "model.safetensors").is_file():
        path.mkdir(parents=True, exist_ok=True)
        shape = SHAPES[name]
        _write(path / "config.json", _config(shape))
        _write_tokenizer(path, shape.vocab)
        save_file(_tensors(shape), path / "model.safetensors", metadata={"format": "pt"})
    return path


def sharded(shape: Shape, path: Path, shards: int) -> Path:
    """Make a checkpoint of several files of about equal size, without a tokenizer."""
    path.mkdir(parents=True, exist_ok=True)
    _write(path / "config.json", _config(shape))
    tensors = _tensors(shape)
    limit = -(-sum(tensor.nbytes for tensor in tensors.values()) // shards)
    groups: list[dict[str, torch.Tensor]] = [{}]
    held = 0
    for name, tensor in tensors.items():
        if held >= limit and len(groups) < shards:
            groups.append({})
            held = 0
        groups[-1][name] = tensor
        held += tensor.nbytes
    count = len(groups)
    placed: dict[str, str] = {}
    for number, group in enumerate(groups, 1):
        file = f"model-{number:05d}-of-{count:05d}.safetensors"
        save_file(group, path / file, metadata={"format": "pt"})
        placed |= dict.fromkeys(group, file)
    _write(path / "model.safetensors.index.json", {"metadata": {}, "weight_map": placed})
    return path


def as_llama(path: Path, directory: Path) -> Path:
    """A copy whose config.json says Llama, for engines that know no Aquila; weights are linked."""
    copy = directory / f"{path.name}-llama"
    copy.mkdir(parents=True, exist_ok=True)
    for file in path.iterdir():
        target = copy / file.name
        target.unlink(missing_ok=True)
        if file.name != "config.json":
            target.symlink_to(file.resolve())
    config = json.loads((path / "config.json").read_text("utf-8"))
    config |= {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    config.pop("auto_map", None)
    _write(copy / "config.json", config)
    return copy


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["AquilaForCausalLM"],
        "bos_token_id": shape.vocab - 2,
        "eos_token_id": shape.vocab - 1,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initializer_range": 0.02,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.context,
        "model_type": "aquila",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": shape.vocab,
    }


def _tensors(shape: Shape) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    square, wide = (shape.hidden, shape.hidden), (shape.inner, shape.hidden)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (shape.vocab, shape.hidden),
        "model.norm.weight": (shape.hidden,),
        "lm_head.weight": (shape.vocab, shape.hidden),
    }
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.self_attn.{name}_proj.weight": square for name in "qkvo"}
        shapes |= {f"{prefix}.mlp.{name}_proj.weight": wide for name in ("gate", "up")}
        shapes[f"{prefix}.mlp.down_proj.weight"] = (shape.hidden, shape.inner)
        shapes[f"{prefix}.input_layernorm.weight"] = (shape.hidden,)
        shapes[f"{prefix}.post_attention_layernorm.weight"] = (shape.hidden,)
    tensors = {}
    for name, size in shapes.items():
        drawn = torch.randn(size, generator=generator) * 0.05
        tensors[name] = (drawn + 1.0 if len(size) == 1 else drawn).bfloat16()
    return tensors


def _write_tokenizer(path: Path, vocab_size: int) -> None:
    """A byte-level BPE whose merges are pairs of bytes, as many as the vocabulary has room for."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = itertools.product(alphabet, alphabet)
    vocab = {"<|endoftext|>": 0} | {symbol: at for at, symbol in enumerate(alphabet, 1)}
    merges = list(itertools.islice(pairs, vocab_size - len(CONTROL) - len(vocab)))
    vocab |= {first + second: at for at, (first, second) in enumerate(merges, len(vocab))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True) for token in ("<|endoftext|>", *CONTROL)]
    )
    tokenizer.save(str(path / "tokenizer.json"))
    marks = {"bos_token": "[CLS]", "eos_token": "</s>", "unk_token": "<|endoftext|>"}
    marks["pad_token"] = "<|endoftext|>"
    _write(path / "special_tokens_map.json", marks)
    more = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 8_192}
    _write(path / "tokenizer_config.json", marks | more)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), "utf-8")
