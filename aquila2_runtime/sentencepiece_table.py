"""SentencePiece vocabularies (``tokenizer.model``). It knows no byte-level files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from aquila2_runtime.errors import MissingDependencyError, TokenizerError
from aquila2_runtime.token_table import CONTROL_TOKENS, END_OF_DOCUMENT, TokenTable
from aquila2_runtime.tokenizer_files import MAX_FILE_BYTES, RECOPY

_SPACE: Final = "\u2581"  # how SentencePiece writes a space
_NAME: Final = "tokenizer.model"
# A normalizer may shorten text before it is cut into pieces: no bound is exact then, and this one,
# for each character of the longest piece, refuses nothing that anybody wrote.
_SHRINKING: Final = 64


class SentencePiece:
    """Encodes text by the sentencepiece package, with the normalization that the file asks for.

    Args:
        processor: A loaded ``SentencePieceProcessor``.
        added: Control tokens beside the model, to ids.

    Attributes:
        adds_space: Whether text is encoded as if a space stood before it.

    Raises:
        TokenizerError: Text could be encoded to a control token.
    """

    def __init__(self, processor: Any, added: Mapping[str, int]) -> None:
        self._processor = processor
        size: int = processor.get_piece_size()
        self._names = {str(processor.id_to_piece(token_id)): token_id for token_id in range(size)}
        self._pieces = list(self._names)
        self._added = dict(added)
        self.adds_space = self._spelt(processor.encode("a")).startswith(" ")
        self._refuse_reachable_controls()

    def table(self) -> TokenTable:
        """Return the ids that were found.

        Raises:
            TokenizerError: The file names no end of text.
        """
        processor = self._processor
        if processor.eos_id() < 0:
            raise TokenizerError(
                f"{_NAME} names no end-of-text piece.", parameter=_NAME, hint=RECOPY
            )
        size = len(self._pieces)
        beside = {name: at for name, at in self._added.items() if name not in self._names}
        moved = [name for name, at in self._added.items() if self._names.get(name, at) != at]
        if moved or sorted(beside.values()) != list(range(size, size + len(beside))):
            raise TokenizerError(
                f"added_tokens.json does not continue the {size} pieces of {_NAME}.",
                parameter="added_tokens.json",
                hint=RECOPY,
            )
        controls = {
            name: at for name, at in self._names.items() if processor.is_control(at)
        } | self._added
        return TokenTable(
            kind="sentencepiece",
            size=size + len(beside),
            ordinary={},
            controls=controls,
            eos_token_id=processor.eos_id(),
            bos_token_id=processor.bos_id() if processor.bos_id() >= 0 else None,
            pad_token_id=processor.pad_id() if processor.pad_id() >= 0 else None,
        )

    def encode(self, text: str) -> list[int]:
        """Return the ids of text; what the vocabulary lacks becomes bytes or the unknown piece."""
        ids: list[int] = self._processor.encode(text)
        return ids

    def bytes_of(self, token_id: int) -> bytes:
        """Return a piece's bytes; the unknown piece is U+FFFD, an unused one nothing."""
        if self._processor.is_byte(token_id):
            return bytes([int(self._pieces[token_id][3:5], 16)])  # spelt <0x41>
        if self._processor.is_unknown(token_id):
            return "\ufffd".encode()
        if self._processor.is_unused(token_id):
            return b""
        return self._pieces[token_id].replace(_SPACE, " ").encode("utf-8")

    def most_characters(self) -> int:
        """Return a bound of the characters of text for each of its ids."""
        return _SHRINKING * max(map(len, self._pieces))

    def _spelt(self, ids: list[int]) -> str:
        return b"".join(map(self.bytes_of, ids)).decode("utf-8", "replace")

    def _refuse_reachable_controls(self) -> None:
        """Pieces of other types are found in text, so none may be a control token."""
        processor = self._processor
        for name in (*CONTROL_TOKENS, END_OF_DOCUMENT, *self._added):
            at = self._names.get(name)
            if at is not None and not (processor.is_control(at) or processor.is_unused(at)):
                raise TokenizerError(
                    f"{_NAME} encodes the text {name!r:.40} to the control token {at}.",
                    parameter=_NAME,
                    value=at,
                    hint="Train it with control_symbols in place of user_defined_symbols.",
                )


def load_sentencepiece(path: Path, added: Mapping[str, int]) -> SentencePiece:
    """Read a model file.

    Args:
        path: A ``tokenizer.model``.
        added: What ``added_tokens.json`` says, to ids.

    Raises:
        MissingDependencyError: The sentencepiece package is missing.
        TokenizerError: The file cannot be read, or text could be encoded to a control token.
    """
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise MissingDependencyError(
            f"{path.parent.name} has a SentencePiece tokenizer, and sentencepiece is not there.",
            parameter="sentencepiece",
            hint='Install it: pip install "aquila2[sentencepiece]".',
        ) from error
    if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
        raise TokenizerError(
            f"{_NAME} is no file of at most {MAX_FILE_BYTES} bytes.", parameter=_NAME, hint=RECOPY
        )
    try:
        processor = SentencePieceProcessor()
        # Unlike the constructor, this refuses an empty file too.
        processor.LoadFromSerializedProto(path.read_bytes())
        return SentencePiece(processor, added)
    except (RuntimeError, OSError, TypeError) as error:
        raise TokenizerError(
            f"{_NAME} is no SentencePiece model.", parameter=_NAME, hint=RECOPY
        ) from error
