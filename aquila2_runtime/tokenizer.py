"""Aquila2Tokenizer: text to ids and ids to bytes. It knows no templates and no messages.

Text never yields a control id, whatever it spells: text is encoded without control tokens, and
``encode_parts`` places them where ``Control`` parts stand.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn, Protocol, Self, SupportsIndex

from aquila2_runtime.byte_level import ByteLevelBpe
from aquila2_runtime.errors import InvalidPromptError, TokenizerError
from aquila2_runtime.parts import Control, Part, join_text
from aquila2_runtime.plain_text import check_text
from aquila2_runtime.sentencepiece_table import load_sentencepiece
from aquila2_runtime.token_table import TokenTable, identify
from aquila2_runtime.tokenizer_files import read_added_tokens, read_json, read_vocabulary


class TextEncoder(Protocol):
    """Ordinary text to ids, and back to bytes. Safe to use from any number of threads."""

    adds_space: bool

    def encode(self, text: str) -> list[int]:
        """Return the ids of text, none of them a control id."""

    def bytes_of(self, token_id: int) -> bytes:
        """Return an ordinary token's bytes."""

    def most_characters(self) -> int:
        """Return the most characters of text that one id can stand for."""


class Aquila2Tokenizer:
    """A checkpoint's tokenizer. Safe to use from any number of threads.

    Attributes:
        kind: Which known shape the files have: "aquila2", "aquila2-2024", "sentencepiece" or
            "unknown".
        n_vocab: Ids 0 to this (exclusive) can be decoded.
        control_ids: Control tokens to ids, ``<|endoftext|>`` among them.
        eos_token_id: End of text.
        bos_token_id: Start of text, or None; no template uses it.
        pad_token_id: Padding, or None.
        adds_space: Whether text is encoded as if a space stood before it, which decoding takes
            off again; only some SentencePiece vocabularies do.
        longest_token_characters: Text of n ids has at most n times as many characters.
    """

    def __init__(self, encoder: TextEncoder, table: TokenTable) -> None:
        self.kind = table.kind
        self.n_vocab = table.size
        self.control_ids: Mapping[str, int] = MappingProxyType(dict(table.controls))
        self.eos_token_id = table.eos_token_id
        self.bos_token_id = table.bos_token_id
        self.pad_token_id = table.pad_token_id
        self.longest_token_characters = encoder.most_characters()
        self.adds_space = encoder.adds_space
        self._encoder = encoder
        self._spelling = {token_id: name for name, token_id in table.controls.items()}
        self._bytes = tuple(
            b"" if token_id in self._spelling else encoder.bytes_of(token_id)
            for token_id in range(table.size)
        )

    @classmethod
    def load(cls, directory: Path, *, vocab_size: int, allow_unknown: bool = False) -> Self:
        """Read the tokenizer files of a checkpoint.

        ``tokenizer.json`` comes first, then ``vocab.json`` with ``merges.txt`` and
        ``added_tokens.json``, then SentencePiece's ``tokenizer.model`` (which also stands in for a
        ``tokenizer.json`` made from it).

        Args:
            directory: The checkpoint.
            vocab_size: Rows of its embedding; every id must lie below.
            allow_unknown: Accept a byte-level vocabulary of a shape that is not known.

        Raises:
            TokenizerError: A file is missing, malformed, of an unknown shape, or does not fit.
            MissingDependencyError: It is a SentencePiece model and the package is missing.
        """
        directory = Path(directory)
        encoder: TextEncoder
        if _is_sentencepiece(directory):
            pieces = load_sentencepiece(directory / "tokenizer.model", read_added_tokens(directory))
            encoder, table = pieces, pieces.table()
            source = "tokenizer.model"
        else:
            files = read_vocabulary(directory)
            source = files.source
            # The size is checked first: it is the plainer thing to say of mixed-up files.
            _check_size(len(files.vocab.keys() | files.added.keys()), vocab_size, source)
            table = identify(files, directory, vocab_size=vocab_size, allow_unknown=allow_unknown)
            encoder = ByteLevelBpe(
                table.ordinary,
                files.merges,
                split=files.split,
                ignore_merges=files.ignore_merges,
            )
        _check_size(table.size, vocab_size, source)
        return cls(encoder, table)

    def encode_ordinary(self, text: str) -> list[int]:
        """Encode text; whatever it spells, no control id comes of it.

        Raises:
            InvalidPromptError: It is no string, or holds a lone surrogate.
            TokenizerError: The tokenizer failed.
        """
        if not check_text(text, "text"):
            return []
        try:
            return self._encoder.encode(text)
        except Exception as error:
            _fail(error)
        except BaseException as error:
            # A panic in Rust is no Exception; interrupts and cancellation are not ours to catch.
            if type(error).__module__ != "pyo3_runtime":
                raise
            _fail(error)

    def encode_parts(self, parts: Iterable[Part]) -> list[int]:
        """Encode a rendered prompt: text run by run, control tokens by their table.

        Raises:
            TokenizerError: The vocabulary lacks a control token.
        """
        ids: list[int] = []
        for part in join_text(parts):
            if isinstance(part, Control):
                ids.append(self._control_id(part.token))
            else:
                ids += self.encode_ordinary(part.text)
        return ids

    def token_bytes(self, token_id: SupportsIndex) -> bytes:
        """Return a token's bytes; a control token has none.

        Raises:
            InvalidPromptError: There is no such id.
        """
        return self._bytes[self._checked(token_id)]

    def token_text(self, token_id: SupportsIndex) -> str:
        """Return a token's text for display: control tokens by name, lone bytes as U+FFFD.

        Raises:
            InvalidPromptError: There is no such id.
        """
        number = self._checked(token_id)
        name = self._spelling.get(number)
        return name if name is not None else self._bytes[number].decode("utf-8", "replace")

    def decode(self, token_ids: Iterable[SupportsIndex]) -> str:
        """Return the text of ids; control tokens yield none, broken characters U+FFFD.

        Raises:
            InvalidPromptError: There is no such id.
        """
        text = b"".join(map(self.token_bytes, token_ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.adds_space else text

    def _control_id(self, token: str) -> int:
        token_id = self.control_ids.get(token)
        if token_id is None:
            raise TokenizerError(
                f"The template needs the control token {token}, which this tokenizer lacks.",
                parameter=token,
                hint='Choose another template; template="aquila-chat" needs none.',
            )
        return token_id

    def _checked(self, token_id: SupportsIndex) -> int:
        # numpy integers are fine, bool and float are mistakes.
        if isinstance(token_id, bool) or not hasattr(token_id, "__index__"):
            self._refuse(token_id)
        number = operator.index(token_id)
        if not 0 <= number < self.n_vocab:
            self._refuse(number)
        return number

    def _refuse(self, token_id: object) -> NoReturn:
        raise InvalidPromptError(
            f"{token_id!r:.40} is no token id: they are integers from 0 to {self.n_vocab - 1}.",
            parameter="token_id",
            value=token_id,
        )


def _is_sentencepiece(directory: Path) -> bool:
    """Whether the model file is the one to read: a tokenizer.json beside it may be made from it."""
    if not (directory / "tokenizer.model").exists() or (directory / "vocab.json").exists():
        return False
    if not (directory / "tokenizer.json").exists():
        return True
    model = read_json(directory / "tokenizer.json").get("model")
    return (
        not isinstance(model, dict)
        or model.get("byte_fallback") is True
        or (model.get("type", "BPE") != "BPE")
    )


def _check_size(size: int, vocab_size: int, source: str) -> None:
    if size > vocab_size:
        raise TokenizerError(
            f"{source} has {size} tokens, but config.json says vocab_size={vocab_size}.",
            parameter=source,
            value=size,
            hint="Tokenizer and weights are of different checkpoints: copy both from one.",
        )


def _fail(error: BaseException) -> NoReturn:
    raise TokenizerError(
        f"The tokenizer failed ({type(error).__name__}).", parameter="text"
    ) from error
