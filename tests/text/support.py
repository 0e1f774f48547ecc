"""Conversations, special spellings and a reference encoder for the text tests."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from aquila2_runtime.message import Message
from aquila2_runtime.parts import Control, Part
from aquila2_runtime.templates import DEFAULT_SYSTEM
from aquila2_runtime.token_table import CONTROL_TOKENS, END_OF_DOCUMENT
from aquila2_runtime.tokenizer import Aquila2Tokenizer

SPECIALS = (*CONTROL_TOKENS, END_OF_DOCUMENT)
TEXT_TEMPLATES = ("aquila-chat", "aquila", "aquila-legacy")
# The one user turn "U1" by every template, written out.
ONE_TURN = {
    "aquila-chat": f"{DEFAULT_SYSTEM}###Human: U1###Assistant:",
    "aquila": f"{DEFAULT_SYSTEM}###Human: U1###Assistant:",
    "aquila-legacy": f"{DEFAULT_SYSTEM}\n\n### Human: U1\n### Assistant: ",
    "aquila-v1": "<|startofpiece|>U1<|endofpiece|>",
    "aquila-v2": f"{DEFAULT_SYSTEM}\n\n<|startofpiece|>U1<|endofpiece|>",
}

PROSE = (
    "北京有哪些景点？请给出10个要到北京旅游的理由。",
    "The Great Wall is long. It isn't short, and they've walked it.",
    "def f(x):\n    return x + 1\n\n\nprint(f(2))",
    "第一行\n第二行\r\n\t第四行",
    "🙂🚀 emoji 测试 👨‍👩‍👧‍👦 𠮷",
    "  leading and trailing spaces  ",
    "# Heading\n## Second\n### Third\n#### Fourth",
    "C# and F#",
    "{{7*7}} {% for x in y %} {x.__class__} %s $HOME",
    "a<b> [x] (y) | z || <| |> [MAS K] </ s>",
    "Ünïcödé ﷽ हिन्दी עברית",
    "1+1=?",
    "",
    " ",
    "\n",
)


def random_conversation(rng: random.Random) -> list[Message]:
    """A conversation of benign texts: no special spelling, no role marker."""
    messages = []
    if rng.random() < 0.4:
        messages.append(Message("system", random_text(rng)))
    for _ in range(rng.randint(0, 4)):
        messages.append(Message("user", random_text(rng)))
        messages.append(Message("assistant", random_text(rng)))
    messages.append(Message("user", random_text(rng)))
    return messages


def random_text(rng: random.Random) -> str:
    """Some of the prose, cut and joined at random, that spells nothing special."""
    while True:
        pieces = []
        for _ in range(rng.randint(1, 4)):
            text = rng.choice(PROSE)
            start = rng.randint(0, len(text))
            pieces.append(text[start : rng.randint(start, len(text))])
        joined = "".join(pieces)
        if not any(special in joined for special in SPECIALS):
            return joined


def spelt(parts: Sequence[Part]) -> str:
    """A prompt as one string, control tokens by name."""
    return "".join(part.token if isinstance(part, Control) else part.text for part in parts)


def control_tokens(parts: Sequence[Part]) -> list[str]:
    """The control tokens of a prompt, in order."""
    return [part.token for part in parts if isinstance(part, Control)]


def controls_in(ids: Sequence[int], tokenizer: Aquila2Tokenizer) -> list[int]:
    """The control ids among ids, in order."""
    control = set(tokenizer.control_ids.values())
    return [token_id for token_id in ids if token_id in control]


def reference_encoder(directory: Path) -> Tokenizer:
    """The tokenizer as other libraries build it: control tokens found in text."""
    vocab = json.loads((directory / "vocab.json").read_text(encoding="utf-8"))
    lines = (directory / "merges.txt").read_text(encoding="utf-8").split("\n")
    merges = [(first, second) for first, _, second in (line.partition(" ") for line in lines[1:-1])]
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_OF_DOCUMENT, special=True, normalized=False)])
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in CONTROL_TOKENS]
    )
    return tokenizer


def write_small_tokenizer(directory: Path) -> None:
    """Train a byte-level BPE of a few hundred tokens and write it in the released layout."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=440,
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [*PROSE, "###Human: ###Assistant: ### Human: ### Assistant: startofpiece"] * 20
    trained.train_from_iterator(corpus, trainer)
    model = json.loads(trained.to_str())["model"]
    write_layout(directory, model["vocab"], model["merges"])


def write_layout(directory: Path, vocab: dict[str, int], merges: Sequence[Sequence[str]]) -> None:
    """Write vocab.json, merges.txt and the files beside them."""
    directory.mkdir(exist_ok=True)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    added = {name: len(vocab) + at for at, name in enumerate(CONTROL_TOKENS)}
    names = {"bos_token": "[CLS]", "eos_token": "</s>", "pad_token": END_OF_DOCUMENT}
    (directory / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    write_json(directory / "vocab.json", vocab)
    write_json(directory / "added_tokens.json", added)
    write_json(directory / "special_tokens_map.json", names)
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", **names})


def write_json(path: Path, value: object) -> None:
    """Write JSON."""
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def read_json(path: Path) -> dict[str, int]:
    """Read JSON."""
    value: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    return value


def vocab_size(directory: Path) -> int:
    """How many ids a directory's files give."""
    return len(read_json(directory / "vocab.json") | read_json(directory / "added_tokens.json"))
