"""Tokenizer files: known shapes load, everything else is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime.byte_level import SPLITS
from aquila2_runtime.errors import TokenizerError
from aquila2_runtime.token_table import CONTROL_TOKENS, END_OF_DOCUMENT
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from tests.text.support import (
    PROSE,
    read_json,
    reference_encoder,
    vocab_size,
    write_json,
    write_layout,
)


@pytest.fixture
def copied(small_directory: Path, tmp_path: Path) -> Path:
    """The small tokenizer, to spoil."""
    return Path(shutil.copytree(small_directory, tmp_path / "copy"))


@pytest.fixture
def as_json(copied: Path) -> Path:
    """The same as one tokenizer.json."""
    reference_encoder(copied).save(str(copied / "tokenizer.json"))
    for name in ("vocab.json", "merges.txt", "added_tokens.json"):
        (copied / name).unlink()
    return copied


def load(directory: Path, size: int = 10_000, **options: bool) -> Aquila2Tokenizer:
    return Aquila2Tokenizer.load(directory, vocab_size=size, **options)


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    edit(data)
    write_json(path, data)


def test_both_layouts_give_the_same_tokenizer(small_directory: Path, as_json: Path) -> None:
    """L8: tokenizer.json, or vocab.json with merges.txt and added_tokens.json."""
    one, other = load(small_directory), load(as_json)
    assert one.kind == other.kind == "aquila2"
    assert one.control_ids == other.control_ids
    assert (one.eos_token_id, one.bos_token_id, one.pad_token_id) == (
        one.n_vocab - 1,
        one.n_vocab - 2,
        0,
    )
    for text in PROSE:
        assert one.encode_ordinary(text) == other.encode_ordinary(text)


def test_the_real_tokenizer_has_the_released_ids(real: Aquila2Tokenizer) -> None:
    """L8: 100,008 ids, the eight control tokens last."""
    expected = {name: 100_000 + at for at, name in enumerate(CONTROL_TOKENS)}
    assert dict(real.control_ids) == expected | {END_OF_DOCUMENT: 0}
    assert (real.kind, real.n_vocab, real.eos_token_id) == ("aquila2", 100_008, 100_007)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("aquila2-demo-trial", 4096),
        ("goldens/reference-model/mha", 320),
        ("goldens/reference-model/linear8", 320),
        ("goldens/reference-model/gqa_linear4", 320),
    ],
)
def test_the_reference_checkpoints_load(shared_data: Path, name: str, size: int) -> None:
    """L8: every layout there is."""
    tokenizer = load(shared_data / name, size)
    assert (tokenizer.kind, tokenizer.n_vocab, tokenizer.eos_token_id) == (
        "aquila2",
        size,
        size - 1,
    )


def test_ids_are_not_guessed_where_added_tokens_json_is_missing(copied: Path) -> None:
    """L8: other libraries number the control tokens they can find; we say what is missing."""
    (copied / "added_tokens.json").unlink()
    with pytest.raises(TokenizerError, match=r"<\|startofpiece\|>.*added_tokens\.json"):
        load(copied)


def test_the_real_files_without_added_tokens_are_refused(
    real_directory: Path, tmp_path: Path
) -> None:
    """L8: the released trap, on the real files."""
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(real_directory / name, tmp_path / name)
    with pytest.raises(TokenizerError, match=r"added_tokens\.json is missing"):
        load(tmp_path, 100_008)


def test_a_vocabulary_larger_than_the_embedding_is_refused(small_directory: Path) -> None:
    """L8: named with both sizes."""
    size = vocab_size(small_directory)
    assert load(small_directory, size).n_vocab == size
    with pytest.raises(TokenizerError, match=rf"{size} tokens.*vocab_size={size - 1}"):
        load(small_directory, size - 1)


def test_a_small_vocabulary_is_not_taken_for_the_released_one(small_directory: Path) -> None:
    """L8: a config of 100,008 rows needs the 100,008 ids."""
    with pytest.raises(TokenizerError, match="other ids"):
        load(small_directory, 100_008)


def test_rows_that_only_pad_an_embedding_are_no_other_vocabulary(real_directory: Path) -> None:
    """L8: a fine-tune whose embedding was brought to a round number of rows."""
    for rows in (100_032, 100_096, 100_352):
        assert load(real_directory, rows).n_vocab == 100_008
    with pytest.raises(TokenizerError):
        load(real_directory, 143_973)


@pytest.mark.parametrize("directory", ["empty", "none"])
def test_a_directory_without_tokenizer_is_refused(tmp_path: Path, directory: str) -> None:
    """L8: with the names that were looked for."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(TokenizerError, match=r"tokenizer\.json nor vocab\.json"):
        load(tmp_path / directory)


def swap(data: dict[str, Any]) -> None:
    data["</s>"], data["[CLS]"] = data["[CLS]"], data["</s>"]


@pytest.mark.parametrize(
    "edit",
    [
        swap,
        lambda data: data.update({"<|extra|>": max(data.values()) + 1}),
        lambda data: data.pop("[MASK]"),
        lambda data: data.update({"</s>": 0}),
        lambda data: data.update({"</s>": max(data.values()) + 5}),
        lambda data: data.update({"</s>": True}),
        lambda data: data.update({"</s>": -1}),
        lambda data: data.update({"</s>": "7"}),
        lambda data: data.update({"</s>": 1.5}),
    ],
)
def test_added_tokens_of_another_shape_are_refused(
    copied: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    """L8: swapped, added, missing, doubled, gapped and mistyped ids."""
    change(copied / "added_tokens.json", edit)
    with pytest.raises(TokenizerError):
        load(copied)


def test_an_unknown_shape_can_be_asked_for(copied: Path) -> None:
    """L8: eos then comes from the files beside it, and added tokens are still no text."""
    extra = read_json(copied / "added_tokens.json")
    extra["<|extra|>"] = max(extra.values()) + 1
    write_json(copied / "added_tokens.json", extra)
    tokenizer = load(copied, allow_unknown=True)
    assert tokenizer.kind == "unknown"
    assert tokenizer.eos_token_id == extra["</s>"]
    assert tokenizer.pad_token_id == 0
    assert extra["<|extra|>"] not in tokenizer.encode_ordinary("<|extra|>")
    (copied / "special_tokens_map.json").unlink()
    (copied / "tokenizer_config.json").unlink()
    with pytest.raises(TokenizerError, match="eos_token"):
        load(copied, allow_unknown=True)


def test_the_map_wins_over_the_config_in_an_unknown_shape(copied: Path) -> None:
    """L8: old tokenizer_config files name the wrong end of text."""
    change(copied / "added_tokens.json", lambda data: data.update({"<x>": max(data.values()) + 1}))
    change(copied / "tokenizer_config.json", lambda data: data.update({"eos_token": "[CLS]"}))
    tokenizer = load(copied, allow_unknown=True)
    assert tokenizer.eos_token_id == tokenizer.control_ids["</s>"]


def test_the_files_beside_a_known_shape_do_not_move_its_ids(
    small_directory: Path, copied: Path
) -> None:
    """L9: names, limits, templates and code in tokenizer_config are not heeded."""
    write_json(copied / "special_tokens_map.json", {"eos_token": END_OF_DOCUMENT})
    config = {
        "eos_token": "[CLS]",
        "chat_template": "{{ 7*7 }}",
        "auto_map": {"AutoTokenizer": ["evil.Evil", None]},
        "model_max_length": 10**30,
        "tokenizer_file": "/etc/passwd",
    }
    (copied / "tokenizer_config.json").write_text(json.dumps(config).replace(str(10**30), "1e30"))
    tokenizer = load(copied)
    assert tokenizer.control_ids == load(small_directory).control_ids
    assert tokenizer.eos_token_id == tokenizer.control_ids["</s>"]
    assert tokenizer.encode_ordinary("{{ 7*7 }}") == load(small_directory).encode_ordinary(
        "{{ 7*7 }}"
    )


HOSTILE = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
SEQUENCE = {"type": "Sequence"}


@pytest.mark.parametrize("allow_unknown", [False, True])
@pytest.mark.parametrize(
    "pre_tokenizer",
    [
        HOSTILE,
        {**SEQUENCE, "pretokenizers": [HOSTILE, BYTES]},
        {**SEQUENCE, "pretokenizers": [BYTES, HOSTILE]},
        {**SEQUENCE, "pretokenizers": []},
        {**SEQUENCE, "pretokenizers": ["ByteLevel"]},
        {**SEQUENCE, "pretokenizers": None},
        {"type": "Whitespace"},
        {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True},
        BYTES,
        None,
        "ByteLevel",
    ],
)
def test_an_unknown_pre_tokenizer_is_refused_and_never_run(
    as_json: Path, pre_tokenizer: object, allow_unknown: bool
) -> None:
    """L8: a hostile Split pattern takes exponential time or panics; nothing of it is run."""
    change(as_json / "tokenizer.json", lambda data: data.update(pre_tokenizer=pre_tokenizer))
    with pytest.raises(TokenizerError, match="pre-tokenizer"):
        load(as_json, allow_unknown=allow_unknown)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("type", "WordPiece"),
        ("type", "Unigram"),
        ("byte_fallback", True),
        ("dropout", 0.5),
        ("continuing_subword_prefix", "##"),
        ("end_of_word_suffix", "</w>"),
        ("merges", [["a"]]),
        ("merges", ["a b c"]),
        ("merges", "a b"),
        ("merges", [["never", "seen"]]),
        ("vocab", []),
        ("vocab", {}),
        ("vocab", {"a": 0}),
    ],
)
def test_another_model_is_refused(as_json: Path, key: str, value: object) -> None:
    """L8: whatever is no byte-level BPE."""
    change(as_json / "tokenizer.json", lambda data: data["model"].update({key: value}))
    with pytest.raises(TokenizerError):
        load(as_json)


@pytest.mark.parametrize("normalizer", [{"type": "NFKC"}, {"type": "Lowercase"}, {}])
def test_a_normalizer_is_refused(as_json: Path, normalizer: object) -> None:
    """L8: it would change the text."""
    change(as_json / "tokenizer.json", lambda data: data.update(normalizer=normalizer))
    with pytest.raises(TokenizerError, match="normalizer"):
        load(as_json)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"model": NaN}', '{"model": 1, "model": 2}', "[" * 100_000, "\x00"],
)
@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "added_tokens.json"])
def test_malformed_json_is_refused(copied: Path, name: str, text: str) -> None:
    """L8: named, and without a RecursionError."""
    (copied / name).write_text(text, encoding="utf-8")
    with pytest.raises(TokenizerError, match=name):
        load(copied)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "merges.txt"])
def test_a_file_of_more_than_100_mb_is_refused_unread(copied: Path, name: str) -> None:
    """L8: by its size alone; the file is sparse."""
    with (copied / name).open("wb") as file:
        file.truncate(100 * 2**20 + 1)
    with pytest.raises(TokenizerError, match=f"{name}.*bytes"):
        load(copied)


def test_merges_that_spell_a_control_token_are_refused(copied: Path) -> None:
    """P1: a vocabulary cannot be built so that text merges into a control token."""
    vocab = read_json(copied / "vocab.json")
    pieces = ["[", "C", "L", "S", "]"]
    built, merges = pieces[0], []
    for piece in pieces[1:]:
        merges.append((built, piece))
        built += piece
        if built != "[CLS]":
            vocab[built] = len(vocab)
    lines = (copied / "merges.txt").read_text(encoding="utf-8").split("\n")
    old = [line.split(" ") for line in lines[1:] if line]
    write_layout(copied, vocab, [*merges, *old])
    with pytest.raises(TokenizerError, match="do not belong together"):
        load(copied)


def test_a_control_token_in_the_vocabulary_is_still_no_text(copied: Path) -> None:
    """P1: as in files that list the eight in vocab.json itself."""
    added = read_json(copied / "added_tokens.json")
    write_json(copied / "vocab.json", read_json(copied / "vocab.json") | added)
    (copied / "added_tokens.json").unlink()
    tokenizer = load(copied)
    assert tokenizer.kind == "aquila2"
    for name, token_id in tokenizer.control_ids.items():
        assert token_id not in tokenizer.encode_ordinary(name)


def test_files_that_contradict_each_other_are_refused(as_json: Path) -> None:
    """L8: tokenizer.json and added_tokens.json of two checkpoints."""
    write_json(as_json / "added_tokens.json", {"</s>": 7})
    with pytest.raises(TokenizerError, match=r"added_tokens\.json 7"):
        load(as_json)


def test_a_vocabulary_without_every_byte_is_refused(copied: Path) -> None:
    """P4: text with that byte would be lost."""
    vocab = read_json(copied / "vocab.json")
    merges = [
        line.split(" ")
        for line in (copied / "merges.txt").read_text(encoding="utf-8").split("\n")[1:]
        if line
    ]
    vocab["[zzzz]"] = vocab.pop("~")
    write_layout(copied, vocab, merges)
    with pytest.raises(TokenizerError, match="lacks 1 of the 256 bytes"):
        load(copied)


@pytest.mark.parametrize("kept", [1, 2, -1])
def test_merges_that_were_cut_off_at_a_lines_end_are_refused(copied: Path, kept: int) -> None:
    """L8: what is left is a list of merges, and would spell text in other tokens."""
    lines = (copied / "merges.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
    (copied / "merges.txt").write_text("\n".join(lines[:kept]) + "\n", encoding="utf-8")
    with pytest.raises(TokenizerError, match="lacks merges") as caught:
        load(copied)
    assert caught.value.parameter == "merges.txt"


def test_windows_line_ends_in_merges_are_read(small_directory: Path, copied: Path) -> None:
    """L8: a checkout on Windows changes them."""
    text = (copied / "merges.txt").read_text(encoding="utf-8")
    (copied / "merges.txt").write_bytes(text.replace("\n", "\r\n").encode())
    one, other = load(copied), load(small_directory)
    assert [one.encode_ordinary(text) for text in PROSE] == [
        other.encode_ordinary(text) for text in PROSE
    ]


def test_a_prefix_space_is_refused(copied: Path) -> None:
    """P4: text would not come back as it was."""
    change(copied / "tokenizer_config.json", lambda data: data.update(add_prefix_space=True))
    with pytest.raises(TokenizerError, match="add_prefix_space"):
        load(copied)


@pytest.mark.parametrize("split", SPLITS)
def test_the_vocabulary_of_2024_loads_by_its_assumed_layout(
    as_json: Path, small_directory: Path, split: str
) -> None:
    """L8: 143,973 ids, whatever the names of its control tokens; known ways of cutting text."""
    path = as_json / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    vocab = data["model"]["vocab"]
    for filler in range(len(vocab), 143_717):
        vocab[f"zz{filler}"] = filler
    data["added_tokens"] = [
        {"id": 143_717 + at, "content": f"<|reserved_{at}|>", "special": True}
        for at in range(143_973 - 143_717)
    ]
    cut = {"type": "Split", "pattern": {"Regex": SPLITS[split]}, "behavior": "Isolated"}
    data["pre_tokenizer"] = {**SEQUENCE, "pretokenizers": [{**cut, "invert": False}, BYTES]}
    write_json(path, data)
    tokenizer = load(as_json, 143_973)
    assert tokenizer.kind == "aquila2-2024"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (143_717, 143_718)
    assert tokenizer.pad_token_id is None
    for text in PROSE:
        assert tokenizer.decode(tokenizer.encode_ordinary(text)) == text
    assert 143_717 not in tokenizer.encode_ordinary("<|reserved_0|>")
    with pytest.raises(TokenizerError):
        load(as_json, 150_000)
