from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.register import (
    AquilaConfig,
    AquilaForCausalLM,
    AquilaModel,
    register,
)
from aquila2_runtime.checkpoint.weights import load_weights
from tests.fixtures_checkpoint import make_checkpoint, make_config

GOLDENS = ("mha", "linear8", "gqa_linear4")


@pytest.fixture(autouse=True)
def registered() -> None:
    register()


@pytest.mark.parametrize("auto_map", [True, False])
def test_the_auto_classes_read_an_aquila_checkpoint_without_remote_code(
    tmp_path: Path, auto_map: bool
) -> None:
    """L1: auto_map is there and the local classes are used all the same."""
    overrides = {} if auto_map else {"auto_map": None}
    path = make_checkpoint(tmp_path, tokenizer="json", **overrides)
    config = AutoConfig.from_pretrained(path)
    assert type(config) is AquilaConfig
    assert type(AutoModel.from_pretrained(path)) is AquilaModel
    assert type(AutoModelForCausalLM.from_pretrained(path)) is AquilaForCausalLM
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert tokenizer.eos_token_id == config.eos_token_id == 319


def test_registering_again_changes_nothing() -> None:
    register()
    register()
    assert AutoConfig.for_model("aquila").__class__ is AquilaConfig


def test_the_configuration_knows_the_released_ids_where_a_file_omits_them() -> None:
    released = AquilaConfig(vocab_size=100_008)
    assert (released.bos_token_id, released.eos_token_id) == (100_006, 100_007)
    newer = AquilaConfig(vocab_size=143_973)
    assert (newer.bos_token_id, newer.eos_token_id) == (143_717, 143_718)
    assert AquilaConfig(vocab_size=320).eos_token_id is None
    assert AquilaConfig(vocab_size=100_008, eos_token_id=0).eos_token_id == 0
    assert AquilaConfig(vocab_size=320).rms_norm_eps == 1e-5


@pytest.mark.parametrize(("stated", "context"), [(4096, 16384), (16384, 16384), (128, 512)])
def test_the_configuration_follows_the_rule_for_the_context(stated: int, context: int) -> None:
    scaling = {"type": "linear", "factor": 4.0}
    config = AquilaConfig(**make_config(max_position_embeddings=stated, rope_scaling=scaling))
    assert config.context_length == context


def test_a_configuration_made_from_checked_facts_says_the_same(tmp_path: Path) -> None:
    scaling = {"type": "linear", "factor": 4.0}
    path = make_checkpoint(tmp_path, rope_scaling=scaling, num_key_value_heads=2)
    facts = read_config(path)
    made, read = AquilaConfig.of(facts), AutoConfig.from_pretrained(path)
    for name in ("hidden_size", "num_key_value_heads", "head_dim", "vocab_size", "eos_token_id"):
        assert getattr(made, name) == getattr(read, name), name
    assert made.rope_parameters.items() <= read.rope_parameters.items()
    assert made.context_length == read.context_length == facts.max_position == 512


def test_the_configuration_survives_pickling_and_saving(tmp_path: Path) -> None:
    config = AquilaConfig(**make_config(rope_scaling={"type": "linear", "factor": 4.0}))
    assert pickle.loads(pickle.dumps(config)).to_dict() == config.to_dict()
    config.save_pretrained(tmp_path)
    assert read_config(tmp_path).rope_factor == 4.0
    assert AutoConfig.from_pretrained(tmp_path).context_length == config.context_length


@pytest.mark.parametrize("name", GOLDENS)
@pytest.mark.parametrize("way", ["auto classes", "runtime"])
def test_logits_equal_the_reference_implementations(shared_data: Path, name: str, way: str) -> None:
    """R1: fp32 logits within 1e-4 of the reference, argmax equal at every position."""
    path = shared_data / "goldens" / "reference-model" / name
    if way == "auto classes":
        model = AutoModelForCausalLM.from_pretrained(path)
    else:
        config = read_config(path)
        model = load_weights(path, config, dtype=torch.float32, device=torch.device("cpu"))
    with np.load(path / "expected.npz") as expected:
        lengths = [key.removeprefix("ids_") for key in expected if key.startswith("ids_")]
        assert lengths
        for length in lengths:
            ids = torch.from_numpy(expected[f"ids_{length}"]).long()[None]
            reference = torch.from_numpy(expected[f"logits_{length}"])
            with torch.inference_mode():
                found = model(ids).logits[0, -len(reference) :]
            assert (found - reference).abs().max() <= 1e-4
            assert torch.equal(found.argmax(-1), reference.argmax(-1))


@pytest.mark.parametrize("name", GOLDENS)
def test_greedy_ids_equal_the_reference_implementations(shared_data: Path, name: str) -> None:
    """R3: greedy continuation of the goldens."""
    path = shared_data / "goldens" / "reference-model" / name
    model = AutoModelForCausalLM.from_pretrained(path)
    with np.load(path / "expected.npz") as expected:
        prompt, answer = expected["gen_prompt"].tolist(), expected["gen_out"].tolist()
    wanted = answer[len(prompt) :] if answer[: len(prompt)] == prompt else answer
    with torch.inference_mode():
        found = model(torch.tensor([prompt + wanted[:-1]])).logits[0, len(prompt) - 1 :].argmax(-1)
    # Each step's choice given the reference's ids before it: equal everywhere means equal greedily.
    assert found.tolist() == wanted
