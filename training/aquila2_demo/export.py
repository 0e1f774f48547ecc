"""Owns the export: a training state becomes a checkpoint folder in the Aquila2 hub layout."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from .model import Shape
from .plan import WINDOW

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
)


def config(shape: Shape) -> dict[str, object]:
    """Gives config.json for a shape."""
    return {
        "architectures": ["AquilaForCausalLM"],
        "model_type": "aquila",
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "hidden_act": "silu",
        "max_position_embeddings": shape.positions,
        "initializer_range": 0.02,
        "rms_norm_eps": shape.eps,
        "use_cache": True,
        "pad_token_id": 0,
        "bos_token_id": shape.vocab - 2,
        "eos_token_id": shape.vocab - 1,
        "pretraining_tp": 1,
        "tie_word_embeddings": False,
        "rope_theta": shape.theta,
        "rope_scaling": {"type": "linear", "factor": shape.factor} if shape.factor > 1 else None,
        "torch_dtype": "bfloat16",
    }


def export(run: Path, out: Path) -> None:
    """Writes weights (bf16, head untied), configuration and tokenizer files."""
    saved = torch.load(run / "state.pt", "cpu", weights_only=True)
    weights = {f"model.{k}": v.to(torch.bfloat16).contiguous() for k, v in saved["net"].items()}
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, str(out / "model.safetensors"), metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    window = saved.get("window", WINDOW)
    shape = Shape(vocab=weights["lm_head.weight"].size(0), positions=window)
    content = config(shape)
    (out / "config.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    keys = ("bos_token_id", "eos_token_id", "pad_token_id")
    generation = {"_from_model_config": True} | {k: content[k] for k in keys}
    text = json.dumps(generation, indent=1) + "\n"
    (out / "generation_config.json").write_text(text, encoding="utf-8")
    for name in TOKENIZER_FILES:
        shutil.copyfile(run / name, out / name)
    settings = json.loads((run / "tokenizer_config.json").read_text(encoding="utf-8"))
    text = json.dumps(settings | {"model_max_length": window}, ensure_ascii=False, indent=1) + "\n"
    (out / "tokenizer_config.json").write_text(text, encoding="utf-8")


def main() -> None:
    """Reads the command line and exports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("build/aquila2-demo"))
    parser.add_argument("--out", type=Path, default=Path("aquila2_runtime/demo"))
    args = parser.parse_args()
    export(args.run, args.out)


if __name__ == "__main__":
    main()
