"""TokenTable: a byte-level vocabulary read from a checkpoint's files and checked. It encodes nothing.

Files are read as data: whatever a ``tokenizer.json`` says about normalizers, pre-tokenizers or
templates is only compared with what Aquila2's own tokenizer does, never run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from aquila2_runtime.checkpoint.strict_json import read_json_object
from aquila2_runtime.errors import TokenizerError

# In the order of their ids in every released tokenizer of the first vocabulary.
CONTROL_TOKENS: Final = (
    "<|startofpiece|>",
    "<|endofpiece|>",
    "<|LDWANG|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "[CLS]",
    "</s>",
)
END_OF_DOCUMENT: Final = "<|endoftext|>"
# The base models of June 2024: another vocabulary, its ids by their released configs.
_SECOND_SIZE: Final = 143_973
_SECOND_IDS: Final = {"bos": 143_717, "eos": 143_718}
_MAX_BYTES: Final = 100 * 2**20
_REBUILD: Final = "Copy the tokenizer files of the checkpoint's own repository."


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TokenTable:
    """A byte-level BPE vocabulary.

    Attributes:
        kind: Which known shape it has, or "unknown".
        vocab: Ordinary tokens in their byte-level spelling to ids; no control token among them.
        merges: Pairs in order of rank.
        controls: Control tokens to ids.
        eos_token_id: End of text.
        bos_token_id: Start of text, or None.
        pad_token_id: Padding, or None.
    """

    kind: str
    vocab: Mapping[str, int]
    merges: list[tuple[str, str]]
    controls: Mapping[str, int]
    eos_token_id: int
    bos_token_id: int | None
    pad_token_id: int | None

    @property
    def size(self) -> int:
        """Ids 0 to this (exclusive) can be decoded."""
        return len(self.vocab) + len(self.controls)


def read_table(directory: Path, *, allow_unknown: bool = False) -> TokenTable:
    """Read ``tokenizer.json``, or ``vocab.json`` with ``merges.txt`` and ``added_tokens.json``.

    Args:
        directory: The checkpoint.
        allow_unknown: Accept a byte-level vocabulary of a shape that is not known.

    Raises:
        TokenizerError: A file is missing or malformed, or the shape is not known.
    """
    if (directory / "tokenizer.json").exists():
        source = "tokenizer.json"
        vocab, merges, added = _from_tokenizer_json(directory / source)
    elif (directory / "vocab.json").exists():
        source = "vocab.json"
        vocab, merges, added = _from_vocab_and_merges(directory)
    else:
        raise TokenizerError(
            f"{directory} has neither tokenizer.json nor vocab.json nor tokenizer.model.",
            parameter="tokenizer.json",
            hint=_REBUILD,
        )
    names = {*added, *CONTROL_TOKENS, END_OF_DOCUMENT}
    # added_tokens.json lists the eight; <|endoftext|> stands in the vocabulary, as id 0.
    controls = {name: vocab.pop(name) for name in sorted(names & vocab.keys())}
    for name, token_id in added.items():
        if controls.setdefault(name, token_id) != token_id:
            raise TokenizerError(
                f"{source}: {name!r} has ids {controls[name]} and {token_id}.",
                parameter=source,
                hint=_REBUILD,
            )
    ids = sorted([*vocab.values(), *controls.values()])
    if ids != list(range(len(ids))):
        raise TokenizerError(
            f"{source}: ids are not 0 to {len(ids) - 1}, each once.",
            parameter=source,
            hint=f"added_tokens.json may be missing or of another checkpoint. {_REBUILD}",
        )
    return _identify(directory, source, vocab, merges, controls, allow_unknown=allow_unknown)


def _identify(
    directory: Path,
    source: str,
    vocab: dict[str, int],
    merges: list[tuple[str, str]],
    controls: dict[str, int],
    *,
    allow_unknown: bool,
) -> TokenTable:
    size = len(vocab) + len(controls)
    first = {name: size - len(CONTROL_TOKENS) + at for at, name in enumerate(CONTROL_TOKENS)}
    first[END_OF_DOCUMENT] = 0
    if controls == first:
        return TokenTable(
            kind=f"Aquila2 byte-level BPE of {size}",
            vocab=vocab,
            merges=merges,
            controls=controls,
            eos_token_id=controls["</s>"],
            bos_token_id=controls["[CLS]"],
            pad_token_id=0,
        )
    if size == _SECOND_SIZE and set(_SECOND_IDS.values()) <= set(controls.values()):
        return TokenTable(
            kind="Aquila2 byte-level BPE of June 2024",
            vocab=vocab,
            merges=merges,
            controls=controls,
            eos_token_id=_SECOND_IDS["eos"],
            bos_token_id=_SECOND_IDS["bos"],
            pad_token_id=None,
        )
    if not allow_unknown:
        missing = [name for name in CONTROL_TOKENS if name not in controls]
        wrong = (
            {name: controls[name] for name in first if controls.get(name, -1) != first[name]}
            if not missing
            else {}
        )
        raise TokenizerError(
            f"{source}: {size} tokens, but not in a shape that Aquila2 checkpoints have: "
            + (f"missing control tokens {', '.join(missing)}." if missing else f"ids {wrong}."),
            parameter=source,
            hint="added_tokens.json may be missing. "
            f"{_REBUILD} Or load with allow_unknown_tokenizer=True.",
        )
    eos, bos = (_declared(directory, f"{which}_token", controls) for which in ("eos", "bos"))
    if eos is None:
        raise TokenizerError(
            f"{source}: no file says which token ends a text.",
            parameter="eos_token",
            hint="Add special_tokens_map.json with an eos_token.",
        )
    return TokenTable(
        kind="unknown",
        vocab=vocab,
        merges=merges,
        controls=controls,
        eos_token_id=eos,
        bos_token_id=bos,
        pad_token_id=_declared(directory, "pad_token", controls),
    )


def _declared(directory: Path, key: str, controls: Mapping[str, int]) -> int | None:
    """A special token's id by the files beside the vocabulary; the map wins over the config."""
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (directory / name).is_file():
            value = _json(directory / name).get(key)
            if isinstance(value, dict):
                value = value.get("content")
            if isinstance(value, str) and value in controls:
                return controls[value]
    return None


def _from_tokenizer_json(
    path: Path,
) -> tuple[dict[str, int], list[tuple[str, str]], dict[str, int]]:
    data = _json(path)
    model = data.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        _unfit("its model is not BPE")
    expected: dict[str, tuple[Any, ...]] = {
        "dropout": (None, 0),
        "continuing_subword_prefix": (None, ""),
        "end_of_word_suffix": (None, ""),
        "byte_fallback": (None, False),
        "ignore_merges": (None, False),
    }
    for key, allowed in expected.items():
        if model.get(key) not in allowed:
            _unfit(f"its model has {key}={model.get(key)!r:.40}")
    if data.get("normalizer") is not None:
        _unfit("it has a normalizer")
    if not _is_byte_level(data.get("pre_tokenizer")):
        _unfit("its pre-tokenizer is not plain ByteLevel without a prefix space")
    added: dict[str, int] = {}
    entries = data.get("added_tokens") or []
    if not isinstance(entries, list):
        _unfit("added_tokens is no list")
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            _unfit("an entry of added_tokens has no content")
        added[entry["content"]] = _id(entry.get("id"), path.name)
    return _vocab(model.get("vocab"), path.name), _pairs(model.get("merges")), added


def _from_vocab_and_merges(
    directory: Path,
) -> tuple[dict[str, int], list[tuple[str, str]], dict[str, int]]:
    merges_file = directory / "merges.txt"
    if not merges_file.is_file() or merges_file.stat().st_size > _MAX_BYTES:
        raise TokenizerError(
            f"merges.txt is missing beside vocab.json in {directory}, or too large.",
            parameter="merges.txt",
            hint=_REBUILD,
        )
    try:
        lines = merges_file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise TokenizerError(
            "merges.txt is not UTF-8.", parameter="merges.txt", hint=_REBUILD
        ) from error
    merges = _pairs([line for line in lines if line and not line.startswith("#version")])
    added_file = directory / "added_tokens.json"
    added = _vocab(_json(added_file), added_file.name) if added_file.is_file() else {}
    return _vocab(_json(directory / "vocab.json"), "vocab.json"), merges, added


def _is_byte_level(pre_tokenizer: object) -> bool:
    if isinstance(pre_tokenizer, dict) and pre_tokenizer.get("type") == "Sequence":
        inner = pre_tokenizer.get("pretokenizers")
        pre_tokenizer = inner[0] if isinstance(inner, list) and len(inner) == 1 else None
    return (
        isinstance(pre_tokenizer, dict)
        and pre_tokenizer.get("type") == "ByteLevel"
        and pre_tokenizer.get("add_prefix_space") is False
        and pre_tokenizer.get("use_regex", True) is True
    )


def _json(path: Path) -> dict[str, Any]:
    return read_json_object(path, max_bytes=_MAX_BYTES, error=TokenizerError)


def _vocab(value: object, source: str) -> dict[str, int]:
    if not isinstance(value, dict):
        _unfit("its vocabulary is no object", source)
    return {token: _id(token_id, source) for token, token_id in value.items()}


def _id(value: object, source: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        _unfit(f"{value!r:.40} is no token id", source)
    return value


def _pairs(value: object) -> list[tuple[str, str]]:
    if not isinstance(value, list):
        _unfit("its merges are no list")
    pairs: list[tuple[str, str]] = []
    for entry in value:
        pair = entry.split(" ") if isinstance(entry, str) else entry
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(half, str) and half for half in pair)
        ):
            _unfit(f"{entry!r:.60} is no merge")
        pairs.append((pair[0], pair[1]))
    return pairs


def _unfit(problem: str, source: str = "tokenizer.json") -> NoReturn:
    raise TokenizerError(
        f"{source} is not the byte-level BPE of Aquila2: {problem}.",
        parameter=source,
        hint=_REBUILD,
    )
