"""LoRA adapters made by peft itself, for any test that needs one: trained, or of random values."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.weights import load_weights

CPU = torch.device("cpu")
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def base_model(path: Path, quantization: str | None = None) -> Any:
    """The checkpoint as a transformers model in fp32."""
    config = read_config(path)
    return load_weights(path, config, dtype=torch.float32, device=CPU, quantization=quantization)


def wrapped(base: Path, settings: Mapping[str, Any]) -> Any:
    """The checkpoint with fresh LoRA matrices."""
    with warnings.catch_warnings():
        # peft asks transformers in a way that transformers will drop one day.
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(base_model(base), LoraConfig(task_type="CAUSAL_LM", **settings))


def random_adapter(
    base: Path, directory: Path, *, seed: int = 0, size: float = 0.15, **settings: Any
) -> Path:
    """Save an adapter whose matrices are random, so that it changes every answer."""
    chosen = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], **settings}
    model = wrapped(base, chosen)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
    return save(model, directory)


def train_adapter(
    base: Path,
    directory: Path,
    examples: Sequence[tuple[list[int], list[int]]],
    *,
    steps: int = 80,
    **settings: Any,
) -> Path:
    """Train an adapter on prompts and answers (ids), and save it as peft does.

    Args:
        base: The checkpoint.
        directory: Where to.
        examples: Prompt ids, and the answer's with its end.
        steps: Steps over all examples at once.
        settings: Of ``LoraConfig``.
    """
    torch.manual_seed(0)
    chosen = {"r": 8, "lora_alpha": 16, "target_modules": list(ALL), **settings}
    model = wrapped(base, chosen)
    longest = max(len(prompt) + len(answer) for prompt, answer in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for row, (prompt, answer) in enumerate(examples):
        ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    for _ in range(steps):
        # Padding follows the answer, which is causal: no mask is needed.
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return save(model, directory)


def save(model: Any, directory: Path) -> Path:
    """Save an adapter without peft's look at a hub for the base model's vocabulary."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(str(directory), save_embedding_layers=False)
    return directory


def peft_logits(
    base: Path, directory: Path, ids: Sequence[int], quantization: str | None = None
) -> torch.Tensor:
    """Logits of peft's own forward pass. ``[tokens, vocab]``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        packed = base_model(base, quantization)
        model = PeftModel.from_pretrained(packed, str(directory)).eval()
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([list(ids)])).logits[0]
    return logits.float()


def as_of_2023(directory: Path, old: Path) -> Path:
    """The same adapter as the reference project's training saved it: a pickle, and few settings."""
    from safetensors.torch import load_file

    old.mkdir()
    settings = json.loads((directory / "adapter_config.json").read_text())
    kept: Mapping[str, Any] = {
        "base_model_name_or_path": "./checkpoints/aquilachat2-7b",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": settings["lora_alpha"],
        "lora_dropout": 0.05,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": settings["r"],
        "revision": None,
        "target_modules": settings["target_modules"],
        "task_type": "CAUSAL_LM",
    }
    (old / "adapter_config.json").write_text(json.dumps(kept, indent=2))
    torch.save(load_file(directory / "adapter_model.safetensors"), old / "adapter_model.bin")
    return old
