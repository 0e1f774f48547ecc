"""SentencePiece vocabularies (``tokenizer.model``), as some converted derivatives have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from aquila2_runtime.errors import MissingDependencyError, TokenizerError

_MAX_BYTES: Final = 100 * 2**20
_SPACE: Final = "\u2581"  # how SentencePiece writes a space


def load_sentencepiece(path: Path) -> dict[str, Any]:
    """Read a model file; return the arguments of ``Aquila2Tokenizer``.

    Raises:
        MissingDependencyError: The sentencepiece package is missing.
        TokenizerError: The file cannot be read or names no end of text.
    """
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise MissingDependencyError(
            "This checkpoint has a SentencePiece tokenizer.model.",
            parameter="sentencepiece",
            hint='Install it with: pip install "aquila2[sentencepiece]"',
        ) from error
    if path.stat().st_size > _MAX_BYTES:
        raise TokenizerError("tokenizer.model is too large.", parameter="tokenizer.model")
    try:
        processor = SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise TokenizerError(
            f"tokenizer.model cannot be read: {error}", parameter="tokenizer.model"
        ) from error
    if processor.eos_id() < 0:
        raise TokenizerError(
            "tokenizer.model names no end-of-text piece.", parameter="tokenizer.model"
        )
    size = processor.get_piece_size()
    controls = {
        processor.id_to_piece(token_id): token_id
        for token_id in range(size)
        if processor.is_control(token_id) or processor.is_unknown(token_id)
    }
    return {
        "encoder": _SentencePiece(processor, frozenset(controls.values())),
        "kind": f"SentencePiece of {size}",
        "n_vocab": size,
        "control_ids": controls,
        "eos_token_id": processor.eos_id(),
        "bos_token_id": processor.bos_id() if processor.bos_id() >= 0 else None,
        "pad_token_id": processor.pad_id() if processor.pad_id() >= 0 else None,
    }


class _SentencePiece:
    """Encodes by the sentencepiece package; control pieces in text stay text by its own rules."""

    def __init__(self, processor: Any, controls: frozenset[int]) -> None:
        self._processor = processor
        self._controls = controls

    def encode(self, text: str) -> list[int]:
        """Encode text; characters outside the vocabulary become bytes or the unknown piece."""
        ids: list[int] = self._processor.encode(text)
        return ids

    def bytes_of(self, token_id: int) -> bytes:
        """Return a piece's bytes."""
        piece: str = self._processor.id_to_piece(token_id)
        if self._processor.is_byte(token_id):
            return bytes([int(piece[3:5], 16)])  # spelt <0x41>
        return piece.replace(_SPACE, " ").encode("utf-8")
