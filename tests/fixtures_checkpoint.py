"""Small random checkpoints in the released layouts, for any test that needs files to load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

VOCAB_SIZE = 320
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
# Merges of the byte-level BPE: frequent English pairs, some with the stand-in for a space.
_PAIRS = tuple(
    line[start : start + 2]
    for line in (
        "thheineranreonatenndtiesorteofedisitalarsttontngsehaasouiole",
        "vecomedehiriroicneearacelichllbemasiomurĠtĠaĠsĠwĠo",
    )
    for start in range(0, len(line), 2)
)
LAYOUTS = ("safetensors", "safetensors-sharded", "bin", "bin-sharded")


def make_config(**overrides: Any) -> dict[str, Any]:
    """A config.json as the released repositories have it, sizes apart; None drops a key."""
    config: dict[str, Any] = {
        "architectures": ["AquilaForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_aquila.AquilaConfig",
            "AutoModelForCausalLM": "modeling_aquila.AquilaForCausalLM",
        },
        "bos_token_id": VOCAB_SIZE - 2,
        "eos_token_id": VOCAB_SIZE - 1,
        "hidden_act": "silu",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 48,
        "max_position_embeddings": 128,
        "model_type": "aquila",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.31.0",
        "use_cache": True,
        "vocab_size": VOCAB_SIZE,
    }
    config.update(overrides)
    return {key: value for key, value in config.items() if value is not None}


def make_tensors(
    config: dict[str, Any], *, dtype: torch.dtype = torch.float32, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Random tensors under the names and in the shapes of a released checkpoint."""
    generator = torch.Generator().manual_seed(seed)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = hidden // config["num_attention_heads"]
    kv = head * config.get("num_key_value_heads", config["num_attention_heads"])
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden)
    }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.self_attn.q_proj.weight": (hidden, hidden),
            f"{prefix}.self_attn.k_proj.weight": (kv, hidden),
            f"{prefix}.self_attn.v_proj.weight": (kv, hidden),
            f"{prefix}.self_attn.o_proj.weight": (hidden, hidden),
            f"{prefix}.mlp.gate_proj.weight": (inner, hidden),
            f"{prefix}.mlp.up_proj.weight": (inner, hidden),
            f"{prefix}.mlp.down_proj.weight": (hidden, inner),
            f"{prefix}.input_layernorm.weight": (hidden,),
            f"{prefix}.post_attention_layernorm.weight": (hidden,),
        }
    shapes["model.norm.weight"] = (hidden,)
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    tensors = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator) * 0.15
        tensors[name] = (values + 1.0 if len(shape) == 1 else values).to(dtype)
    return tensors


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), "utf-8")


def write_weights(
    directory: Path, tensors: dict[str, torch.Tensor], layout: str, *, shards: int = 3
) -> list[Path]:
    """Write tensors in one of ``LAYOUTS``; returns the weight files, in order."""
    kind = "bin" if layout.startswith("bin") else "safetensors"
    stem = "pytorch_model" if kind == "bin" else "model"
    if not layout.endswith("-sharded"):
        groups = {f"{stem}.{kind}": tensors}
    else:
        names = list(tensors)
        size = -(-len(names) // shards)
        groups = {
            f"{stem}-{number + 1:05d}-of-{shards:05d}.{kind}": {
                name: tensors[name] for name in names[number * size : (number + 1) * size]
            }
            for number in range(shards)
        }
        write_json(
            directory / f"{stem}.{kind}.index.json",
            {
                "metadata": {
                    "total_size": sum(t.numel() * t.element_size() for t in tensors.values())
                },
                "weight_map": {name: file for file, group in groups.items() for name in group},
            },
        )
    for file, group in groups.items():
        if kind == "bin":
            torch.save(group, directory / file)
        else:
            save_file(group, directory / file, metadata={"format": "pt"})
    return [directory / file for file in groups]


def write_tokenizer(directory: Path, kind: str = "vocab") -> None:
    """Write a byte-level BPE of 320 ids: ``"vocab"`` (the hub's layout) or ``"json"``."""
    alphabet = _byte_alphabet()
    vocab = {"<|endoftext|>": 0}
    for symbol in [*alphabet, *_PAIRS]:
        vocab[symbol] = len(vocab)
    added = {token: len(vocab) + number for number, token in enumerate(CONTROL)}
    merges = [(pair[0], pair[1]) for pair in _PAIRS]
    marks = {"bos_token": "[CLS]", "eos_token": "</s>", "unk_token": "<|endoftext|>"}
    write_json(directory / "special_tokens_map.json", marks | {"pad_token": "<|endoftext|>"})
    write_json(
        directory / "tokenizer_config.json",
        marks
        | {"add_prefix_space": False, "model_max_length": 2048, "tokenizer_class": "GPT2Tokenizer"},
    )
    if kind == "vocab":
        write_json(directory / "vocab.json", vocab)
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        (directory / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
        write_json(directory / "added_tokens.json", added)
        return
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in ["<|endoftext|>", *added]]
    )
    tokenizer.save(str(directory / "tokenizer.json"))


def make_checkpoint(
    directory: Path,
    *,
    layout: str = "safetensors-sharded",
    dtype: torch.dtype = torch.float32,
    tokenizer: str | None = "vocab",
    seed: int = 0,
    **config: Any,
) -> Path:
    """Make a whole checkpoint of random weights.

    Args:
        directory: Made if it is not there.
        layout: One of ``LAYOUTS``.
        dtype: Of the files; config.json says float16 unless told otherwise, as the 7B's do.
        tokenizer: "vocab" (vocab, merges, added tokens), "json" (tokenizer.json) or None.
        seed: Of the weights.
        config: Entries of config.json; None drops one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    values = make_config(**config)
    write_json(directory / "config.json", values)
    write_json(
        directory / "generation_config.json",
        {"_from_model_config": True, "bos_token_id": 318, "eos_token_id": 319, "pad_token_id": 0},
    )
    write_weights(directory, make_tensors(values, dtype=dtype, seed=seed), layout)
    if tokenizer is not None:
        write_tokenizer(directory, tokenizer)
    return directory


def _byte_alphabet() -> list[str]:
    """The 256 printable stand-ins for bytes, in the byte-level BPE's usual order."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())
