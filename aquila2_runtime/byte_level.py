"""ByteLevelBpe: byte-level byte-pair encoding of ordinary text. It knows no control tokens."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Final

from aquila2_runtime.errors import TokenizerError
from aquila2_runtime.word_ids import WordIds

SPLITS: Final = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "cl100k, single digits": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
"""How text is cut before merging. Only these expressions are ever run: one from a file could take
exponential time or make the regex engine panic."""

DEFAULT_SPLIT: Final = "GPT-2"
_CACHED_WORDS: Final = 10_000


@functools.cache
def byte_of_character() -> Mapping[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for.

    Printable bytes stand for themselves; the others are shifted to U+0100 and up, in order, as in
    GPT-2's vocabulary.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    table = {chr(byte): byte for byte in visible}
    hidden = (byte for byte in range(256) if byte not in visible)
    table.update({chr(0x100 + offset): byte for offset, byte in enumerate(hidden)})
    return table


class ByteLevelBpe:
    """Encodes text by the tokenizers package, built here from data alone.

    Args:
        vocab: Tokens in their byte-level spelling to ids; no control token among them.
        merges: Pairs in order of rank.
        split: A name of ``SPLITS``.
        ignore_merges: Whether a whole word that is a token is taken without merging.

    Raises:
        TokenizerError: Vocabulary and merges do not fit, a byte cannot be spelt, or a token is
            spelt in other characters.
    """

    adds_space = False

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        split: str = DEFAULT_SPLIT,
        ignore_merges: bool = False,
    ) -> None:
        from tokenizers import Regex, Tokenizer, pre_tokenizers
        from tokenizers.models import BPE

        missing = byte_of_character().keys() - vocab.keys()
        if missing:
            raise TokenizerError(
                f"The vocabulary lacks {len(missing)} of the 256 bytes: some text would be lost.",
                parameter="vocab",
                hint="Copy the tokenizer files of the checkpoint's own repository.",
            )
        self._bytes = {token_id: _bytes_of(token, token_id) for token, token_id in vocab.items()}
        try:
            model = BPE(
                dict(vocab),
                list(merges),
                cache_capacity=_CACHED_WORDS,
                ignore_merges=ignore_merges,
            )
        except Exception as error:
            raise TokenizerError(
                f"The vocabulary and the merges do not belong together: {error}",
                parameter="merges",
                hint="Copy the tokenizer files of one and the same checkpoint.",
            ) from error
        self._tokenizer = Tokenizer(model)
        if split == DEFAULT_SPLIT:
            cut: pre_tokenizers.PreTokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        else:
            cut = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(SPLITS[split]), behavior="isolated"),
                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            )
        self._tokenizer.pre_tokenizer = cut
        self._words = WordIds(self._encode, self._encode_apart)

    def encode(self, text: str) -> list[int]:
        """Return the ids of text."""
        return self._words.encode(text)

    def bytes_of(self, token_id: int) -> bytes:
        """Return an ordinary token's bytes."""
        return self._bytes[token_id]

    def most_characters(self) -> int:
        """Return the most characters that one token can stand for.

        Every character has one byte that is no continuation byte, so counting those bounds the
        characters of any text by its tokens.
        """
        return max(sum(byte & 0xC0 != 0x80 for byte in value) for value in self._bytes.values())

    def _encode(self, text: str) -> list[int]:
        """The ids of a short text: taking the interpreter's lock back would cost more than this."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _encode_apart(self, text: str) -> list[int]:
        """The ids of a long text, without the interpreter's lock, which only batches give up."""
        (found,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        ids: list[int] = found.ids
        return ids


def _bytes_of(token: str, token_id: int) -> bytes:
    table = byte_of_character()
    try:
        return bytes(table[character] for character in token)
    except KeyError as error:
        raise TokenizerError(
            f"Token {token_id} ({token!r:.40}) is not spelt in byte-level characters.",
            parameter="vocab",
            value=token_id,
            hint="Only byte-level BPE and SentencePiece vocabularies can be used.",
        ) from error
