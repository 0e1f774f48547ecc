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

from training.aquila2_demo.corpus import conversations, prompt_text, reading, segments
from training.aquila2_demo.evaluate import Answerer, held_out
from training.aquila2_demo.export import config
from training.aquila2_demo.lexicon import Words
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


def test_corpus_is_the_same_for_the_same_seed() -> None:
    once = list(islice(conversations(11, 256, early=False), 30))
    assert once == list(islice(conversations(11, 256, early=False), 30))
    assert once != list(islice(conversations(12, 256, early=False), 30))


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_answers_are_in_the_document(lang: str) -> None:
    words = Words(random.Random(7), lang)
    for _ in range(150):
        talk = reading(words, 8, 4, 0.0)
        for _, answer in talk.turns:
            assert answer.lower() in talk.document.lower()


def test_rendering_is_the_chat_format() -> None:
    talk = next(t for t in conversations(2, 256, early=False) if len(t.turns) > 1 and not t.system)
    text = "".join(piece for piece, _ in segments(talk))
    (first, answer), (second, _) = talk.turns[:2]
    start = f"<|startofpiece|>{first}<|endofpiece|>{answer}</s><|startofpiece|>{second}"
    assert text.startswith(start)
    assert prompt_text(talk, 1) == start + "<|endofpiece|>"


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
def test_held_out_extraction(model: Answerer, lang: str) -> None:
    score = held_out(model, lang, 40, lambda w: reading(w, 8, 3, 0.0), seed=77)
    assert score.right >= 0.75 * score.asked
    assert score.stopped >= 0.95 * score.asked
