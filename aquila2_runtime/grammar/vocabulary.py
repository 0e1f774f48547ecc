"""Vocabulary: a checkpoint's tokens as llguidance reads them. It knows no constraints."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from aquila2_runtime.errors import MissingDependencyError, TokenizerError

if TYPE_CHECKING:
    from types import ModuleType

    from aquila2_runtime.tokenizer import Aquila2Tokenizer


def llguidance() -> ModuleType:
    """Return the package.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import llguidance as found
    except ImportError as error:
        raise MissingDependencyError(
            "Constraints and tools need llguidance, and it is not there.",
            parameter="llguidance",
            hint='Install it: pip install "aquila2[grammar]".',
        ) from error
    return found


class Vocabulary:
    """The tokens, and what is asked of them time and again.

    Args:
        tokenizer: Of the checkpoint.

    Attributes:
        compiled: The tokens as llguidance holds them; shared by all matchers.
        eos_token_id: The one control token that an answer may hold, at its end.
        only_end: The bit mask that allows nothing but the end.
        units: Tokens of one byte each, by byte. The few vocabularies that lack some bytes can
            spell only what their other tokens do.

    Raises:
        MissingDependencyError: llguidance is not installed.
    """

    def __init__(self, tokenizer: Aquila2Tokenizer) -> None:
        package = llguidance()
        count = tokenizer.n_vocab
        self.eos_token_id = tokenizer.eos_token_id
        self._bytes = [tokenizer.token_bytes(token_id) for token_id in range(count)]
        names = {token_id: name for name, token_id in tokenizer.control_ids.items()}
        # A token without bytes would be allowed everywhere and lead nowhere.
        silent = [token_id for token_id in range(count) if not self._bytes[token_id]]
        spelt = [
            self._bytes[token_id] or names.get(token_id, f"<unused {token_id}>").encode()
            for token_id in range(count)
        ]
        wrapper = package.TokenizerWrapper(
            _Tokens(self.eos_token_id, spelt, silent, _encoder(tokenizer, self._bytes))
        )
        self.compiled: Any = package.LLTokenizer(wrapper)
        self.only_end = self.mask_of(self.eos_token_id)
        self._completions: dict[bytes, list[tuple[int, int, bytes]]] = {}
        self.units: dict[int, int] = {}
        for token_id, value in enumerate(self._bytes):
            if len(value) == 1:
                self.units.setdefault(value[0], token_id)

    def bytes_of(self, token_id: int) -> bytes:
        """A token's bytes; a control token has none."""
        return self._bytes[token_id] if token_id < len(self._bytes) else b""

    def cut(self, data: bytes) -> list[int]:
        """Tokens that spell some bytes, taking the longest each time.

        Raises:
            TokenizerError: The vocabulary has no tokens for them.
        """
        start = 0
        while start < len(data) and data[start] & 0xC0 == 0x80:
            start += 1  # the rest of a character that was begun before
        try:
            head = [self.units[byte] for byte in data[:start]]
            tokens: list[int] = self.compiled.greedy_tokenize(data[start:].decode("utf-8"))
        except (KeyError, UnicodeDecodeError) as error:
            raise TokenizerError(
                "The vocabulary cannot spell what the constraint asks for.", parameter="constraint"
            ) from error
        return head + tokens

    def spell(self, data: bytes) -> list[int]:
        """Tokens that spell some bytes, one for each byte where the vocabulary has all of them."""
        try:
            return [self.units[byte] for byte in data]
        except KeyError:
            return self.cut(data)

    def completions(self, text: bytes) -> list[tuple[int, int, bytes]]:
        """Tokens with which a text can become complete.

        Returns:
            For each such token: how many bytes of the text must stand before it, its id, and the
            bytes it has behind the text.
        """
        known = self._completions.get(text)
        if known is not None:
            return known
        found: list[tuple[int, int, bytes]] = []
        for token_id, value in enumerate(self._bytes):
            at = value.find(text)
            if at >= 0:
                found.append((0, token_id, value[at + len(text) :]))
                continue
            for before in range(1, len(text)):
                rest = text[before:]
                if value.startswith(rest):
                    found.append((before, token_id, value[len(rest) :]))
        self._completions[text] = found
        return found

    def mask_without(self, barred: Iterable[int]) -> bytes:
        """A bit mask that allows every id but some."""
        mask = bytearray(b"\xff" * (-(-len(self._bytes) // 8)))
        for token_id in barred:
            mask[token_id // 8] &= ~(1 << token_id % 8)
        return bytes(mask)

    def mask_of(self, token_id: int) -> bytes:
        """A bit mask that allows one id."""
        mask = bytearray(-(-len(self._bytes) // 8))
        mask[token_id // 8] = 1 << token_id % 8
        return bytes(mask)


def _encoder(tokenizer: Aquila2Tokenizer, values: Sequence[bytes]) -> Callable[[str], list[int]]:
    """How text that must come next is cut into tokens: as the tokenizer does it, if it can.

    One that puts a space before every text cannot: what must come next has none before it. The
    longest tokens are taken then.
    """
    if not tokenizer.adds_space:
        # What is compiled is kept as long as the tokenizer is: it must not hold it in turn.
        held = weakref.ref(tokenizer)

        def ordinary(text: str) -> list[int]:
            found = held()
            return [] if found is None else found.encode_ordinary(text)

        return ordinary
    ids = {value: token_id for token_id, value in enumerate(values) if value}
    longest = max(map(len, ids))

    def encode(text: str) -> list[int]:
        data, found = text.encode("utf-8"), []
        while data:
            size = next((n for n in range(longest, 0, -1) if data[:n] in ids), 0)
            if not size:
                break  # what cannot be spelt is left out; the grammar then allows nothing
            found.append(ids[data[:size]])
            data = data[size:]
        return found

    return encode


class _Tokens:
    """What llguidance asks of a tokenizer."""

    def __init__(
        self,
        eos_token_id: int,
        tokens: Sequence[bytes],
        special_token_ids: Sequence[int],
        encode: Callable[[str], list[int]],
    ) -> None:
        self.eos_token_id = eos_token_id
        self.bos_token_id = None
        self.tokens = tokens
        self.special_token_ids = special_token_ids
        self._encode = encode

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)
