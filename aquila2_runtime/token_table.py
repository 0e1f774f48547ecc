"""TokenTable: which shape a vocabulary has, and the ids of its control tokens. It encodes nothing.

A table of known shapes stands between a directory and a model that would read wrong ids without
complaint: with ``added_tokens.json`` missing, other libraries hand out guessed ids.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

from aquila2_runtime.errors import TokenizerError
from aquila2_runtime.tokenizer_files import RECOPY, VocabularyFiles, read_json

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
"""The eight control tokens, in the order of their ids: the last of every known vocabulary."""

END_OF_DOCUMENT: Final = "<|endoftext|>"
"""Id 0 of every known vocabulary: padding, and never text."""

_FIRST_SIZE: Final = 100_008  # the chat models and the base models of 2023
# Rows that tools for training add to an embedding, so that their number is a round one. No id
# stands for them.
_MOST_PADDING: Final = 512
# The base models since June 2024. Their configs give size and ids; their files were never seen by
# us, so the layout is assumed: control tokens of any names at these ids.
_SECOND_SIZE: Final = 143_973
_SECOND_BOS: Final = 143_717
_SECOND_EOS: Final = 143_718


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TokenTable:
    """A vocabulary whose ids were checked.

    Attributes:
        kind: "aquila2", "aquila2-2024", "sentencepiece" or "unknown".
        size: Ids 0 to this (exclusive) exist, each once.
        ordinary: Ordinary tokens to ids, in the spelling of the files.
        controls: Control tokens to ids.
        eos_token_id: End of text.
        bos_token_id: Start of text, or None.
        pad_token_id: Padding, or None.
    """

    kind: str
    size: int
    ordinary: Mapping[str, int]
    controls: Mapping[str, int]
    eos_token_id: int
    bos_token_id: int | None
    pad_token_id: int | None


def identify(
    files: VocabularyFiles, directory: Path, *, vocab_size: int, allow_unknown: bool = False
) -> TokenTable:
    """Find the shape of a byte-level vocabulary.

    Args:
        files: What was read.
        directory: The checkpoint, for the files that name the end of text of an unknown shape.
        vocab_size: Of the checkpoint's config.
        allow_unknown: Accept a shape that is not known; every token that the files add beside the
            vocabulary then counts as a control token.

    Raises:
        TokenizerError: Ids are missing or doubled, or the shape is not known.
    """
    ordinary = dict(files.vocab)
    # Control tokens leave the vocabulary, so that no text can be merged into one.
    controls = {
        name: ordinary.pop(name)
        for name in (*CONTROL_TOKENS, END_OF_DOCUMENT, *files.added)
        if name in ordinary
    }
    for name, token_id in files.added.items():
        if controls.setdefault(name, token_id) != token_id:
            _refuse(files, f"{name!r:.40} has the ids {controls[name]} and {token_id}")
    size = len(ordinary) + len(controls)
    ids = {*ordinary.values(), *controls.values()}
    if len(ids) != size or max(ids) != size - 1:
        _refuse(files, f"the ids of its {size} tokens are not 0 to {size - 1}, each once")
    table = _first_shape(size, ordinary, controls, vocab_size)
    table = table or _second_shape(size, ordinary, controls, vocab_size)
    if table is not None:
        return table
    if not allow_unknown:
        _refuse_shape(files, size, controls, vocab_size)
    eos = _declared(directory, "eos_token", controls)
    if eos is None:
        _refuse(files, "no file beside it says which token ends a text (eos_token)")
    return TokenTable(
        kind="unknown",
        size=size,
        ordinary=ordinary,
        controls=controls,
        eos_token_id=eos,
        bos_token_id=_declared(directory, "bos_token", controls),
        pad_token_id=_declared(directory, "pad_token", controls),
    )


def _first_shape(
    size: int, ordinary: dict[str, int], controls: dict[str, int], vocab_size: int
) -> TokenTable | None:
    """The eight control tokens last, in order, and <|endoftext|> as id 0: of any size."""
    padded = size == _FIRST_SIZE and 0 < vocab_size - size <= _MOST_PADDING
    fits = padded or (vocab_size == _FIRST_SIZE) == (size == _FIRST_SIZE)
    if controls != _expected(size) or not fits:
        return None
    return TokenTable(
        kind="aquila2",
        size=size,
        ordinary=ordinary,
        controls=controls,
        eos_token_id=controls["</s>"],
        bos_token_id=controls["[CLS]"],
        pad_token_id=controls[END_OF_DOCUMENT],
    )


def _second_shape(
    size: int, ordinary: dict[str, int], controls: dict[str, int], vocab_size: int
) -> TokenTable | None:
    if vocab_size != _SECOND_SIZE or not {_SECOND_BOS, _SECOND_EOS} <= set(controls.values()):
        return None
    return TokenTable(
        kind="aquila2-2024",
        size=size,
        ordinary=ordinary,
        controls=controls,
        eos_token_id=_SECOND_EOS,
        bos_token_id=_SECOND_BOS,
        pad_token_id=None,
    )


def _expected(size: int) -> dict[str, int]:
    first = size - len(CONTROL_TOKENS)
    return {END_OF_DOCUMENT: 0} | {name: first + at for at, name in enumerate(CONTROL_TOKENS)}


def _declared(directory: Path, key: str, controls: Mapping[str, int]) -> int | None:
    """A special token's id by the files beside the vocabulary; the map wins over the config."""
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = directory / name
        value = read_json(path).get(key) if path.exists() else None
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str) and value in controls:
            return controls[value]
    return None


def _refuse_shape(
    files: VocabularyFiles, size: int, controls: Mapping[str, int], vocab_size: int
) -> NoReturn:
    expected = _expected(_FIRST_SIZE if vocab_size == _FIRST_SIZE else size)
    missing = [name for name in expected if name not in controls]
    if missing:
        problem = f"it lacks the control tokens {', '.join(missing)}"
    else:
        wrong = [f"{name}={controls[name]} (not {at})" for name, at in expected.items()
                 if controls[name] != at]  # fmt: skip
        problem = f"control tokens have other ids: {', '.join(wrong)}" if wrong else (
            f"it has {size} tokens, some of them unknown control tokens")  # fmt: skip
    raise TokenizerError(
        f"{files.source}: no Aquila2 checkpoint has a tokenizer like this one: {problem}.",
        parameter=files.source,
        value=size,
        hint=("added_tokens.json is missing or of another checkpoint. " if missing else "")
        + f"{RECOPY} Or load with allow_unknown_tokenizer=True.",
    )


def _refuse(files: VocabularyFiles, problem: str) -> NoReturn:
    raise TokenizerError(f"{files.source}: {problem}.", parameter=files.source, hint=RECOPY)
