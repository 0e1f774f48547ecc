"""VocabularyFiles: byte-level BPE data read from a checkpoint's files. It judges no control ids.

Files are data: what a ``tokenizer.json`` says of normalizers, pre-tokenizers or templates is only
compared with what is known, never run.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Final, NoReturn

from aquila2_runtime.byte_level import DEFAULT_SPLIT, SPLITS
from aquila2_runtime.checkpoint.strict_json import read_json_object
from aquila2_runtime.errors import TokenizerError

MAX_FILE_BYTES: Final = 100 * 2**20
RECOPY: Final = "Copy the tokenizer files of the checkpoint's own repository."


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyFiles:
    """What the files say.

    Attributes:
        source: The file that holds the vocabulary.
        vocab: Tokens in their byte-level spelling to ids; may hold control tokens too.
        merges: Pairs in order of rank.
        added: Tokens that the files list beside the vocabulary, to ids.
        split: How text is cut before merging, a name of ``byte_level.SPLITS``.
        ignore_merges: Whether a whole word that is a token is taken without merging.
    """

    source: str
    vocab: dict[str, int]
    merges: list[tuple[str, str]]
    added: dict[str, int]
    split: str = DEFAULT_SPLIT
    ignore_merges: bool = False


def read_vocabulary(directory: Path) -> VocabularyFiles:
    """Read ``tokenizer.json``, or else ``vocab.json``, ``merges.txt`` and ``added_tokens.json``.

    Raises:
        TokenizerError: A file is missing, too large, malformed or no byte-level BPE.
    """
    if (directory / "tokenizer.json").exists():
        return _from_tokenizer_json(directory)
    if (directory / "vocab.json").exists():
        return _from_vocab_and_merges(directory)
    raise TokenizerError(
        f"{directory} has no tokenizer: neither tokenizer.json nor vocab.json nor tokenizer.model.",
        parameter="tokenizer.json",
        hint=RECOPY,
    )


def read_added_tokens(directory: Path) -> dict[str, int]:
    """Read ``added_tokens.json``; empty if there is none."""
    path = directory / "added_tokens.json"
    return _vocab(read_json(path), path.name) if path.exists() else {}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object strictly and within the size limit."""
    return read_json_object(path, max_bytes=MAX_FILE_BYTES, error=TokenizerError)


def _from_tokenizer_json(directory: Path) -> VocabularyFiles:
    data = read_json(directory / "tokenizer.json")
    model = data.get("model")
    # Old files leave the type out.
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        _refuse("its model is not BPE")
    for key, allowed in _PLAIN.items():
        if model.get(key) not in allowed:
            _refuse(f"its model has {key}={model.get(key)!r:.40}")
    if data.get("normalizer") is not None:
        _refuse("it has a normalizer, which would change the text")
    added: dict[str, int] = {}
    entries = data.get("added_tokens") or []
    if not isinstance(entries, list):
        _refuse("added_tokens is no list")
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            _refuse("an entry of added_tokens has no content")
        token_id = _id(entry.get("id"), "tokenizer.json")
        if added.setdefault(entry["content"], token_id) != token_id:
            _refuse(f"{entry['content']!r:.40} is added twice")
    for name, token_id in read_added_tokens(directory).items():
        if added.get(name, token_id) != token_id:
            _refuse(f"it gives {name!r:.40} the id {added[name]}, added_tokens.json {token_id}")
    return VocabularyFiles(
        source="tokenizer.json",
        vocab=_vocab(model.get("vocab"), "tokenizer.json"),
        merges=_pairs(model.get("merges"), "tokenizer.json"),
        added=added,
        split=_split(data.get("pre_tokenizer")),
        ignore_merges=model.get("ignore_merges") is True,
    )


_MARK: Final = re.compile(r"<.*>|\[.*\]", re.DOTALL)
_PLAIN: Final[dict[str, tuple[object, ...]]] = {
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False, True),
}


def _from_vocab_and_merges(directory: Path) -> VocabularyFiles:
    path = directory / "merges.txt"
    if not path.is_file():
        _refuse(f"it is missing beside vocab.json in {directory}", "merges.txt")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        _refuse(f"it has {size} bytes, more than {MAX_FILE_BYTES}", "merges.txt")
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError:
        _refuse("it is not UTF-8", "merges.txt")
    if lines[0].startswith("#version"):
        del lines[0]
    vocab = _vocab(read_json(directory / "vocab.json"), "vocab.json")
    merges = _pairs([line.rstrip("\r") for line in lines if line.strip("\r")], "merges.txt")
    added = read_added_tokens(directory)
    _check_whole(vocab, merges, added)
    config = directory / "tokenizer_config.json"
    if config.exists() and read_json(config).get("add_prefix_space") not in (None, False):
        _refuse("add_prefix_space is on, so text would not come back as it was", config.name)
    return VocabularyFiles(source="vocab.json", vocab=vocab, merges=merges, added=added)


def _check_whole(
    vocab: dict[str, int], merges: list[tuple[str, str]], added: dict[str, int]
) -> None:
    """Every token of several bytes must be what some merge makes, unless it is a mark.

    A list of merges that was cut off at a line's end is a list of merges, and would silently spell
    text in other tokens than the model knows.
    """
    known = {left + right for left, right in merges} | added.keys()
    longer = [token for token in vocab if len(token) > 1]
    lost = [token for token in longer if token not in known and not _MARK.fullmatch(token)]
    if lost:
        _refuse(f"it lacks merges: none makes {lost[0]!r:.40} ({len(lost)} such)", "merges.txt")


def _split(pre_tokenizer: object) -> str:
    """The known way of cutting text that a pre-tokenizer describes."""
    steps: object = [pre_tokenizer]
    if isinstance(pre_tokenizer, dict) and pre_tokenizer.get("type") == "Sequence":
        steps = pre_tokenizer.get("pretokenizers")
    known = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    if known and known == steps:
        *cut, last = known
        plain = last.get("type") == "ByteLevel" and last.get("add_prefix_space") is False
        by_regex = last.get("use_regex", True)
        if plain and not cut and by_regex is True:
            return DEFAULT_SPLIT
        if plain and len(cut) == 1 and by_regex is False:
            return _known_expression(cut[0])
    _refuse("its pre-tokenizer is not ByteLevel without a prefix space")


def _known_expression(step: dict[str, Any]) -> str:
    pattern = step.get("pattern")
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    isolated = step.get("behavior") == "Isolated" and step.get("invert") in (None, False)
    if step.get("type") == "Split" and isolated:
        for name, known in SPLITS.items():
            if expression == known:
                return name
    _refuse("its pre-tokenizer splits by an expression that is not known, which is not run")


def _vocab(value: object, source: str) -> dict[str, int]:
    if not isinstance(value, dict) or not value:
        _refuse("its vocabulary is missing or no object", source)
    return {token: _id(token_id, source) for token, token_id in value.items()}


def _id(value: object, source: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        _refuse(f"{value!r:.40} is no token id", source)
    return value


def _pairs(value: object, source: str) -> list[tuple[str, str]]:
    if not isinstance(value, list):
        _refuse("its merges are no list", source)
    pairs: list[tuple[str, str]] = []
    for entry in value:
        pair = entry.split(" ") if isinstance(entry, str) else entry
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(half, str) and half for half in pair)
        ):
            _refuse(f"{entry!r:.60} is no merge", source)
        pairs.append((pair[0], pair[1]))
    return pairs


def _refuse(problem: str, source: str = "tokenizer.json") -> NoReturn:
    raise TokenizerError(
        f"{source} is not a byte-level BPE that can be used: {problem}.",
        parameter=source,
        hint=RECOPY,
    )
