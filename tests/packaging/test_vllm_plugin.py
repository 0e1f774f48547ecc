"""vLLM finds the plugin by its entry point and serves an untouched checkpoint."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from aquila2_runtime import vllm_plugin


def test_vllm_finds_it_by_its_entry_point() -> None:
    found = importlib.metadata.entry_points(group="vllm.general_plugins")
    (own,) = [entry for entry in found if entry.name == "aquila2"]
    assert own.load() is vllm_plugin.register


@pytest.mark.slow
@pytest.mark.enable_socket
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("default")
def test_vllm_continues_a_checkpoint_as_transformers_does(demo_path: Path) -> None:
    vllm = pytest.importorskip("vllm", reason="needs vLLM")
    import torch
    from transformers import LlamaForCausalLM

    from aquila2_runtime import register

    register()
    ids = list(range(9, 60))
    model = LlamaForCausalLM.from_pretrained(demo_path, dtype=torch.float32)
    whole = model.generate(torch.tensor([ids]), max_new_tokens=16, do_sample=False, pad_token_id=0)
    engine = vllm.LLM(model=str(demo_path), dtype="float32", max_model_len=256, enforce_eager=True)
    (answer,) = engine.generate(
        {"prompt_token_ids": ids}, vllm.SamplingParams(temperature=0, max_tokens=16)
    )
    assert list(answer.outputs[0].token_ids) == whole[0, len(ids) :].tolist()
