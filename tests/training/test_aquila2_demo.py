"""Tests of the small model that ships with the package and of the recipe that makes it."""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from training.aquila2_demo.answerer import Answerer
from training.aquila2_demo.corpus import conversations
from training.aquila2_demo.evaluate import held_out, measure
from training.aquila2_demo.export import config
from training.aquila2_demo.lexicon import Words
from training.aquila2_demo.measures import abilities, items
from training.aquila2_demo.model import Shape
from training.aquila2_demo.tokenizer import CONTROL, PAD

DEMO = Path(__file__).parents[2] / "aquila2_runtime" / "demo"
TEXTS = [
    "The meeting was moved to Thursday, room B204.",
    "图书馆早上八点开门，馆长是李文静。",
    "混合 text：￥12.50、🙂 and\n\n two  spaces\t",
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The shipped tokenizer."""
    return Tokenizer.from_file(str(DEMO / "tokenizer.json"))


@pytest.fixture(scope="module")
def model() -> Answerer:
    """The shipped weights in transformers' Llama classes."""
    torch.set_num_threads(1)
    return Answerer(DEMO)


@pytest.mark.parametrize("text", TEXTS)
def test_tokenizer_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_control_tokens_are_last_and_pad_is_zero(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(t) for t in CONTROL] == list(range(4088, 4096))
    assert tokenizer.token_to_id(PAD) == 0


def test_vocab_and_merges_give_the_same_ids(tokenizer: Tokenizer) -> None:
    plain = Tokenizer(models.BPE.from_file(str(DEMO / "vocab.json"), str(DEMO / "merges.txt")))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    for talk in islice(conversations(3, 256, early=False), 40):
        text = talk.turns[0][0]
        assert plain.encode(text).ids == tokenizer.encode(text).ids


def test_a_word_has_the_same_tokens_with_and_without_a_space(tokenizer: Tokenizer) -> None:
    words = Words(random.Random(5), "en")
    space = tokenizer.encode(" ").ids
    for _ in range(300):
        name = words.person()
        assert tokenizer.encode(" " + name).ids == space + tokenizer.encode(name).ids
        assert tokenizer.encode("在" + name).ids == (
            tokenizer.encode("在").ids + tokenizer.encode(name).ids
        )


def test_checkpoint_has_exactly_the_keys_of_the_architecture() -> None:
    stored = json.loads((DEMO / "config.json").read_text(encoding="utf-8"))
    assert stored == config(Shape())
    bare = {k: v for k, v in stored.items() if k not in ("architectures", "model_type")}
    expected = LlamaForCausalLM(LlamaConfig(**bare)).state_dict()
    with safe_open(DEMO / "model.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(expected)
        for key in file.keys():  # noqa: SIM118 - not a dict
            assert file.get_tensor(key).shape == expected[key].shape
            assert file.get_tensor(key).dtype == torch.bfloat16


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_checkpoint_extracts_held_out_facts_and_ends_its_answers(
    model: Answerer, lang: str
) -> None:
    score = held_out(model, lang, 60, seed=77)
    assert score.right >= 0.68
    assert score.stopped >= 0.97


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("not in the document", 0.45),
        ("recall over turns", 0.9),
        ("tools: the call, of 1 to 4", 0.45),
        ("tools: answer from a result", 0.9),
        ("JSON", 0.45),
        ("small talk", 0.9),
    ],
)
def test_the_checkpoint_does_what_its_card_says(
    model: Answerer, lang: str, name: str, least: float
) -> None:
    talk, keep = abilities(lang)[name]
    assert measure(model, name, lang, items(lang, 40, talk, keep, seed=78)).right >= least


def test_answers_in_a_batch_are_those_given_alone(model: Answerer) -> None:
    asked = [i.prompt for i in items("en", 6, abilities("en")["recall over turns"][0])]
    together = model.answers(asked)
    assert together == [model.answer(prompt) for prompt in asked]
    assert len({answer.tokens for answer in together}) > 1
