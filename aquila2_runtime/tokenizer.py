"""Aquila2Tokenizer: text to ids and ids to bytes, over a checkpoint's own files.

Text never yields a control id, whatever it spells: the encoder is built without control tokens,
and only ``encode_parts`` places them, where a template's ``Control`` parts stand.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, Self

from aquila2_runtime.errors import InvalidPromptError, TokenizerError
from aquila2_runtime.templates import Control, Part
from aquila2_runtime.token_table import TokenTable, read_table


class TextEncoder(Protocol):
    """What a vocabulary must offer: ordinary text to ids, and each id's bytes."""

    def encode(self, text: str) -> list[int]:
        """Encode text without control tokens."""

    def bytes_of(self, token_id: int) -> bytes:
        """Return an ordinary token's bytes."""


class Aquila2Tokenizer:
    """A checkpoint's tokenizer. Safe to use from any number of threads.

    Attributes:
        kind: Which known shape the files have.
        n_vocab: Ids 0 to this (exclusive) can be decoded.
        control_ids: Control tokens to ids.
        eos_token_id: End of text.
        bos_token_id: Start of text, or None; no template uses it.
        pad_token_id: Padding, or None.
        longest_token_characters: No token spells more characters than this.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        kind: str,
        n_vocab: int,
        control_ids: Mapping[str, int],
        eos_token_id: int,
        bos_token_id: int | None,
        pad_token_id: int | None,
    ) -> None:
        self.kind = kind
        self.n_vocab = n_vocab
        self.control_ids: Mapping[str, int] = MappingProxyType(dict(control_ids))
        self.eos_token_id = eos_token_id
        self.bos_token_id = bos_token_id
        self.pad_token_id = pad_token_id
        self._encoder = encoder
        self._spelling = {token_id: name for name, token_id in control_ids.items()}
        self._bytes = [
            b"" if token_id in self._spelling else encoder.bytes_of(token_id)
            for token_id in range(n_vocab)
        ]
        # A character has at least one byte, so the longest token bounds the characters too.
        self.longest_token_characters = max(map(len, self._bytes), default=1)

    @classmethod
    def load(cls, directory: Path, *, vocab_size: int, allow_unknown: bool = False) -> Self:
        """Read the tokenizer files of a checkpoint.

        Args:
            directory: The checkpoint.
            vocab_size: Rows of its embedding; every id must lie below.
            allow_unknown: Accept a vocabulary of a shape that is not known.

        Raises:
            TokenizerError: A file is missing, malformed, of an unknown shape, or does not fit.
            MissingDependencyError: It is a SentencePiece model and the package is missing.
        """
        names = ("tokenizer.json", "vocab.json")
        if (
            not any((directory / name).exists() for name in names)
            and (directory / "tokenizer.model").exists()
        ):
            from aquila2_runtime.sentencepiece_table import load_sentencepiece

            arguments = load_sentencepiece(directory / "tokenizer.model")
            tokenizer = cls(arguments.pop("encoder"), **arguments)
        else:
            table = read_table(directory, allow_unknown=allow_unknown)
            _fits(table.size, vocab_size)
            tokenizer = cls(
                _ByteLevel(table),
                kind=table.kind,
                n_vocab=table.size,
                control_ids=table.controls,
                eos_token_id=table.eos_token_id,
                bos_token_id=table.bos_token_id,
                pad_token_id=table.pad_token_id,
            )
        _fits(tokenizer.n_vocab, vocab_size)
        return tokenizer

    def encode_ordinary(self, text: str) -> list[int]:
        """Encode text; whatever it spells, no control id comes of it.

        Raises:
            InvalidPromptError: The text holds a lone surrogate, which no bytes can stand for.
            TokenizerError: The tokenizer failed.
        """
        if not text:
            return []
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidPromptError(
                f"The text holds a lone surrogate (U+{ord(text[error.start]):04X}) at character "
                f"{error.start}.",
                parameter="text",
                value=error.start,
                hint='Repair it with text.encode("utf-16", "surrogatepass").decode("utf-16", '
                '"replace").',
            ) from None
        try:
            return self._encoder.encode(text)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # a panic of the Rust tokenizer is no Exception
            raise TokenizerError(f"The tokenizer failed: {error}", parameter="text") from error

    def encode_parts(self, parts: Iterable[Part]) -> list[int]:
        """Encode a rendered template: control tokens by table, text between them in one piece.

        Raises:
            TokenizerError: The template needs a control token this vocabulary does not have.
        """
        ids: list[int] = []
        run: list[str] = []
        for part in parts:
            if isinstance(part, Control):
                # Text on both sides of a border is one run to the tokenizer, as to the reference.
                ids += self.encode_ordinary("".join(run))
                run.clear()
                ids.append(self.control_id(part.token))
            else:
                run.append(part.text)
        return ids + self.encode_ordinary("".join(run))

    def control_id(self, token: str) -> int:
        """Return a control token's id.

        Raises:
            TokenizerError: This vocabulary does not have it.
        """
        token_id = self.control_ids.get(token)
        if token_id is None:
            raise TokenizerError(
                f"The template needs the control token {token}, which this tokenizer lacks.",
                parameter=token,
                hint="Choose another template; aquila-chat needs no control tokens.",
            )
        return token_id

    def token_bytes(self, token_id: int) -> bytes:
        """Return a token's bytes; a control token has none.

        Raises:
            InvalidPromptError: There is no such id.
        """
        if not 0 <= token_id < self.n_vocab:
            raise InvalidPromptError(
                f"There is no token {token_id}; ids go from 0 to {self.n_vocab - 1}.",
                parameter="token_id",
                value=token_id,
            )
        return self._bytes[token_id]

    def token_text(self, token_id: int) -> str:
        """Return a token's text for display: control tokens by name, lone bytes as U+FFFD."""
        name = self._spelling.get(token_id)
        return name if name is not None else self.token_bytes(token_id).decode("utf-8", "replace")

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of ids; control tokens yield none, broken characters U+FFFD."""
        return b"".join(map(self.token_bytes, token_ids)).decode("utf-8", "replace")


def _fits(size: int, vocab_size: int) -> None:
    if size > vocab_size:
        raise TokenizerError(
            f"The tokenizer has {size} tokens, but config.json says vocab_size={vocab_size}.",
            parameter="vocab_size",
            value=vocab_size,
            hint="The tokenizer files and the weights are of different checkpoints.",
        )


@functools.cache
def _byte_of_character() -> dict[str, int]:
    """Byte-level BPE spells each byte as one visible character (the table of GPT-2's encoder)."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in visible}
    others = (byte for byte in range(256) if byte not in set(visible))
    table.update({chr(0x100 + offset): byte for offset, byte in enumerate(others)})
    return table


class _ByteLevel:
    """Byte-level BPE by the tokenizers package, built without control tokens."""

    _CACHED_WORDS: Final = 10_000

    def __init__(self, table: TokenTable) -> None:
        from tokenizers import Tokenizer
        from tokenizers.models import BPE
        from tokenizers.pre_tokenizers import ByteLevel

        try:
            model = BPE(dict(table.vocab), table.merges, cache_capacity=self._CACHED_WORDS)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            raise TokenizerError(
                f"The vocabulary and the merges do not belong together: {error}",
                parameter="merges",
                hint="Copy the tokenizer files of one and the same checkpoint.",
            ) from error
        self._tokenizer = Tokenizer(model)
        self._tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
        self._spelling = {token_id: token for token, token_id in table.vocab.items()}
        missing = _byte_of_character().keys() - table.vocab.keys()
        if missing:
            raise TokenizerError(
                f"The vocabulary lacks {len(missing)} of the 256 bytes, so some text would be lost.",
                parameter="vocab",
                hint="Copy the tokenizer files of the checkpoint's own repository.",
            )

    def encode(self, text: str) -> list[int]:
        """Encode text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def bytes_of(self, token_id: int) -> bytes:
        """Return an ordinary token's bytes."""
        table = _byte_of_character()
        spelling = self._spelling[token_id]
        try:
            return bytes(table[character] for character in spelling)
        except KeyError as error:
            raise TokenizerError(
                f"Token {token_id} ({spelling!r:.40}) is not spelt in byte-level characters.",
                parameter="vocab",
                value=token_id,
            ) from error
