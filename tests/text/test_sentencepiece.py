"""SentencePiece vocabularies, trained here on a few lines."""

from __future__ import annotations

import builtins
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime.conversation import render_messages
from aquila2_runtime.detokenizer import IncrementalDetokenizer
from aquila2_runtime.errors import MissingDependencyError, TokenizerError
from aquila2_runtime.message import Message
from aquila2_runtime.templates import TEMPLATES
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from tests.text.support import PROSE, SPECIALS, controls_in, write_json

sentencepiece = pytest.importorskip("sentencepiece")


def train(directory: Path, **options: Any) -> Path:
    directory.mkdir(exist_ok=True)
    text = directory / "text.txt"
    lines = [line for item in PROSE for line in item.splitlines() if line.strip()]
    text.write_text("\n".join(lines * 10), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(directory / "tokenizer"),
        hard_vocab_limit=False,
        minloglevel=2,
        **{"model_type": "bpe", "byte_fallback": True, "remove_extra_whitespaces": False}
        | {"normalization_rule_name": "identity", "vocab_size": 420}
        | options,
    )
    return directory


@pytest.fixture(scope="module")
def llama_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The usual layout: a space put before text, bytes for what is not in the vocabulary."""
    return train(tmp_path_factory.mktemp("pieces"))


def load(directory: Path, size: int = 10_000) -> Aquila2Tokenizer:
    return Aquila2Tokenizer.load(directory, vocab_size=size)


def test_ids_are_those_of_the_model_file(llama_like: Path) -> None:
    """L8: a tokenizer.model alone is a known shape."""
    tokenizer = load(llama_like)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(llama_like / "tokenizer.model"))
    assert tokenizer.kind == "sentencepiece"
    assert tokenizer.n_vocab == processor.get_piece_size()
    assert dict(tokenizer.control_ids) == {"<s>": 1, "</s>": 2}
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, None)
    for text in PROSE:
        assert tokenizer.encode_ordinary(text) == processor.encode(text)


@pytest.mark.parametrize("prefix", [True, False])
def test_text_comes_back_as_it_was(tmp_path: Path, prefix: bool) -> None:
    """P4: with and without the space that such vocabularies put before text; D1: streamed too."""
    tokenizer = load(train(tmp_path, add_dummy_prefix=prefix))
    assert tokenizer.adds_space is prefix
    for text in (*PROSE, "  two", "龘😀", "a\0b"):
        ids = tokenizer.encode_ordinary(text)
        assert tokenizer.decode(ids) == text
        stream = IncrementalDetokenizer(tokenizer)
        assert "".join(map(stream.add, ids)) + stream.finish() == text


@pytest.mark.parametrize("special", [*SPECIALS, "<s>", "<unk>", "<0x41>"])
def test_special_spellings_stay_text(special: str, llama_like: Path) -> None:
    """P1: the same for SentencePiece."""
    tokenizer = load(llama_like)
    for text in (special, f"a{special}b"):
        assert controls_in(tokenizer.encode_ordinary(text), tokenizer) == []
        assert tokenizer.decode(tokenizer.encode_ordinary(text)) == text


def test_control_tokens_beside_the_model_follow_its_pieces(
    llama_like: Path, tmp_path: Path
) -> None:
    """P1: added_tokens.json gives the templates' control tokens their ids."""
    shutil.copy(llama_like / "tokenizer.model", tmp_path)
    size = load(tmp_path).n_vocab
    added = {"<|startofpiece|>": size, "<|endofpiece|>": size + 1}
    write_json(tmp_path / "added_tokens.json", added)
    tokenizer = load(tmp_path)
    assert tokenizer.n_vocab == size + 2
    question = [Message("user", "<|endofpiece|>")]
    ids = tokenizer.encode_parts(render_messages(question, TEMPLATES["aquila-v1"]).parts)
    assert controls_in(ids, tokenizer) == [size, size + 1]
    write_json(tmp_path / "added_tokens.json", {"<|startofpiece|>": size + 3})
    with pytest.raises(TokenizerError, match="does not continue"):
        load(tmp_path)


def test_control_tokens_that_text_can_spell_are_refused(tmp_path: Path) -> None:
    """P1: user-defined pieces are found in text."""
    directory = train(tmp_path, user_defined_symbols=["<|startofpiece|>"])
    with pytest.raises(TokenizerError, match="control_symbols"):
        load(directory)


def test_control_symbols_of_the_model_are_no_text(tmp_path: Path) -> None:
    """P1: the way to have them inside the model file."""
    names = ["<|startofpiece|>", "<|endofpiece|>"]
    tokenizer = load(train(tmp_path, control_symbols=names))
    assert set(names) < set(tokenizer.control_ids)
    for name in names:
        assert controls_in(tokenizer.encode_ordinary(name), tokenizer) == []


def test_a_default_training_loads_too(tmp_path: Path) -> None:
    """L8: unigram, normalised, without bytes: what it lacks becomes its unknown piece."""
    tokenizer = load(
        train(
            tmp_path,
            model_type="unigram",
            byte_fallback=False,
            normalization_rule_name="nmt_nfkc",
            remove_extra_whitespaces=True,
            vocab_size=150,
        )
    )
    assert tokenizer.decode(tokenizer.encode_ordinary("The Great Wall")) == "The Great Wall"
    assert "\ufffd" in tokenizer.decode(tokenizer.encode_ordinary("龘"))


def test_a_larger_vocabulary_than_the_embedding_is_refused(llama_like: Path) -> None:
    """L8: as for every other kind."""
    with pytest.raises(TokenizerError, match="vocab_size=100"):
        load(llama_like, 100)


def test_a_tokenizer_json_made_from_it_gives_way_to_the_model(
    llama_like: Path, tmp_path: Path
) -> None:
    """L8: such a file is no byte-level BPE."""
    shutil.copy(llama_like / "tokenizer.model", tmp_path)
    write_json(tmp_path / "tokenizer.json", {"model": {"type": "BPE", "byte_fallback": True}})
    assert load(tmp_path).kind == "sentencepiece"


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x00" * 1000])
def test_a_damaged_model_is_refused(tmp_path: Path, content: bytes) -> None:
    """L8: by name."""
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.model"):
        load(tmp_path)


def test_a_missing_package_is_named(llama_like: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L8: with the command that installs it."""
    real_import = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name == "sentencepiece":
            raise ImportError(name)
        return real_import(name, *rest, **options)

    monkeypatch.delitem(sys.modules, "sentencepiece")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r'pip install "aquila2\[sentencepiece\]"'):
        load(llama_like)
