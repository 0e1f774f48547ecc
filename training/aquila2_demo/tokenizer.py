"""Owns the tokenizer: byte-level BPE trained on the generated corpus, a word the same anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from .corpus import conversations
from .lexicon import LEVEL1_ZH
from .model import Shape

CONTROL = "<|startofpiece|> <|endofpiece|> <|LDWANG|> [MASK] [gMASK] [sMASK] [CLS] </s>".split()
PAD = "<|endoftext|>"
VOCAB = 4096


def _texts(count: int, seed: int) -> Iterator[str]:
    for talk in islice(conversations(seed, 256, early=False), count):
        yield "\n".join([talk.system, *(user + "\n" + answer for user, answer in talk.turns)])
    yield from (LEVEL1_ZH[i : i + 50] for i in range(0, len(LEVEL1_ZH), 50))


def _learn(count: int, seed: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Learns merges that never cross a space, a digit or a Chinese character."""
    learner = Tokenizer(models.BPE())
    alone = Regex(r" |\d|[\u3400-\u9fff]|[\u3000-\u303f\uff00-\uffef]")
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(alone, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - len(CONTROL),
        special_tokens=[PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(_texts(count, seed), trainer)
    learned = json.loads(learner.to_str())["model"]
    return learned["vocab"], [(a, b) for a, b in learned["merges"]]


def build(folder: Path, count: int = 12000, seed: int = 1) -> Tokenizer:
    """Trains the tokenizer and writes every file a checkpoint of the family carries for it."""
    vocab, merges = _learn(count, seed)
    if len(vocab) != VOCAB - len(CONTROL) or vocab[PAD] != 0:
        raise ValueError(f"the corpus gave {len(vocab)} tokens, not {VOCAB - len(CONTROL)}")
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in [PAD, *CONTROL]]
    )
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _dump(folder / "vocab.json", vocab)
    _dump(folder / "added_tokens.json", {t: len(vocab) + i for i, t in enumerate(CONTROL)})
    names = {"bos_token": "[CLS]", "eos_token": "</s>", "pad_token": PAD, "unk_token": PAD}
    _dump(folder / "special_tokens_map.json", names)
    config: dict[str, object] = {
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": Shape.positions,
        "tokenizer_class": "GPT2Tokenizer",
    }
    config |= names
    _dump(folder / "tokenizer_config.json", config)
    return made


def _dump(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    build(Path("build/aquila2-demo"))
