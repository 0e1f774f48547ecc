"""Encoding and decoding: exact round trips, typed errors, threads."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from aquila2_runtime.byte_level import ByteLevelBpe, byte_of_character
from aquila2_runtime.errors import InvalidPromptError, TokenizerError
from aquila2_runtime.parts import Control, Part, Text
from aquila2_runtime.token_table import TokenTable
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from tests.text.support import PROSE, SPECIALS, controls_in

ANY_TEXT = st.text(st.characters(codec="utf-8"))


@given(text=ANY_TEXT)
def test_any_text_comes_back_as_it_was(text: str, tokenizer: Aquila2Tokenizer) -> None:
    """P4: nothing is normalised, stripped or lost."""
    assert tokenizer.decode(tokenizer.encode_ordinary(text)) == text


@pytest.mark.slow
@settings(max_examples=10_000)
@given(text=ANY_TEXT)
def test_10000_texts_come_back_as_they_were(text: str, tokenizer: Aquila2Tokenizer) -> None:
    """P4: the whole run."""
    assert tokenizer.decode(tokenizer.encode_ordinary(text)) == text


@pytest.mark.parametrize(
    "text",
    [*PROSE, "a\0b", "\ufeffx", "\u202eabc", "\U0010ffff", "a\r\nb", "  two", "e\u0301" * 50],
)
def test_unusual_characters_come_back_as_they_were(text: str, tokenizer: Aquila2Tokenizer) -> None:
    """D9: NUL, byte-order mark, bidi controls, line ends and spaces; P13 the same."""
    assert tokenizer.decode(tokenizer.encode_ordinary(text)) == text


@given(text=ANY_TEXT)
def test_no_text_has_more_characters_than_its_tokens_can_stand_for(
    text: str, tokenizer: Aquila2Tokenizer
) -> None:
    """P7: so that a refusal by length alone is never wrong."""
    ids = tokenizer.encode_ordinary(text)
    assert len(text) <= len(ids) * tokenizer.longest_token_characters


def test_characters_of_a_token_are_counted_by_their_first_bytes() -> None:
    """P7: a token of six bytes can stand for two Chinese characters."""
    character = {byte: spelling for spelling, byte in byte_of_character().items()}
    vocab = {spelling: at for at, spelling in enumerate(character.values())}
    first, *others = (character[byte] for byte in "你好".encode())
    merges = []
    for other in others:
        merges.append((first, other))
        first += other
        vocab[first] = len(vocab)
    encoder = ByteLevelBpe(vocab, merges)
    assert encoder.encode("你好") == [len(vocab) - 1]
    assert encoder.most_characters() == 2


@given(pieces=st.lists(ANY_TEXT, max_size=6))
def test_text_parts_are_encoded_as_one_text(pieces: list[str], small: Aquila2Tokenizer) -> None:
    """P3: whatever the borders; only a control token separates."""
    whole = small.encode_ordinary("".join(pieces))
    assert small.encode_parts([Text(piece) for piece in pieces]) == whole
    eos = Control("</s>")
    apart = small.encode_parts([*(Text(piece) for piece in pieces), eos, Text("x")])
    assert apart == [*whole, small.eos_token_id, *small.encode_ordinary("x")]


def test_the_longest_token_of_the_real_vocabulary_is_known(real: Aquila2Tokenizer) -> None:
    """P7: token 50879 stands for 512 characters, no other for more."""
    assert real.longest_token_characters == 512 == len(real.decode([50_879]))


@given(head=ANY_TEXT, surrogate=st.integers(0xD800, 0xDFFF).map(chr), tail=ANY_TEXT)
def test_a_lone_surrogate_is_refused_with_its_position(
    head: str, surrogate: str, tail: str, small: Aquila2Tokenizer
) -> None:
    """P5: an InvalidPromptError, and never a TypeError or a panic."""
    with pytest.raises(InvalidPromptError, match=f"position {len(head)}") as caught:
        small.encode_ordinary(head + surrogate + tail)
    assert caught.value.value == len(head)


@pytest.mark.parametrize("text", [None, 5, b"bytes", ["list"]])
def test_what_is_no_string_is_refused(text: object, small: Aquila2Tokenizer) -> None:
    """P10: typed, before any work."""
    with pytest.raises(InvalidPromptError, match="must be a string"):
        small.encode_ordinary(text)  # type: ignore[arg-type]


TABLE = TokenTable(
    kind="unknown",
    size=1,
    ordinary={},
    controls={"</s>": 0},
    eos_token_id=0,
    bos_token_id=None,
    pad_token_id=None,
)


class Encoder:
    """An encoder over a function."""

    adds_space = False

    def __init__(self, function: object) -> None:
        self.function = function

    def encode(self, text: str) -> list[int]:
        return self.function(text)  # type: ignore[operator,no-any-return]

    def bytes_of(self, token_id: int) -> bytes:
        raise KeyError(token_id)

    def most_characters(self) -> int:
        return 1


def test_a_panic_of_the_tokenizer_is_a_typed_error() -> None:
    """P6: a regular expression that panics in Rust, which is a BaseException in Python."""
    hostile = Tokenizer(models.BPE())
    hostile.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")
    text = "a" * 40 + "b"
    with pytest.raises(BaseException) as panic:
        hostile.encode(text)
    assert not isinstance(panic.value, Exception)
    tokenizer = Aquila2Tokenizer(Encoder(lambda text: hostile.encode(text).ids), TABLE)
    with pytest.raises(TokenizerError, match="PanicException"):
        tokenizer.encode_ordinary(text)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_interrupts_pass_through_the_tokenizer(error: type[BaseException]) -> None:
    """P6: they are not swallowed with panics."""

    def interrupted(_: str) -> list[int]:
        raise error

    with pytest.raises(error):
        Aquila2Tokenizer(Encoder(interrupted), TABLE).encode_ordinary("x")


@pytest.mark.parametrize("bad", [-1, 2**32, 10**30, True, 1.0, "1", None])
def test_an_id_that_does_not_exist_is_refused(bad: object, tokenizer: Aquila2Tokenizer) -> None:
    """P11: no id decodes to nothing in silence."""
    for call in (tokenizer.token_bytes, tokenizer.token_text, lambda it: tokenizer.decode([it])):
        with pytest.raises(InvalidPromptError, match="no token id"):
            call(bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidPromptError, match="no token id"):
        tokenizer.token_bytes(tokenizer.n_vocab)


def test_numpy_ids_are_ids(tokenizer: Aquila2Tokenizer) -> None:
    """P11: they are integers."""
    ids = tokenizer.encode_ordinary("你好 world")
    assert tokenizer.decode(np.array(ids, dtype=np.int64)) == "你好 world"


def test_every_id_has_bytes_and_text(tokenizer: Aquila2Tokenizer) -> None:
    """S10: every id below n_vocab can be decoded; control ids have a name and no bytes."""
    names = {token_id: name for name, token_id in tokenizer.control_ids.items()}
    assert set(names.values()) == set(SPECIALS)
    for token_id in range(tokenizer.n_vocab):
        data, text = tokenizer.token_bytes(token_id), tokenizer.token_text(token_id)
        if token_id in names:
            assert (data, text) == (b"", names[token_id])
        else:
            assert data
            assert text == data.decode("utf-8", "replace")


def test_a_control_token_that_the_vocabulary_lacks_is_refused(small: Aquila2Tokenizer) -> None:
    """P1: a part that is no control token does not become text."""
    with pytest.raises(TokenizerError, match="<nonsense>"):
        small.encode_parts([Text("a"), Control("<nonsense>")])


def threads_agree(tokenizer: Aquila2Tokenizer, rounds: int) -> None:
    text = "".join(PROSE) + "".join(SPECIALS)
    parts: list[Part] = [Text(text), Control("</s>"), Text(text)]
    expected = tokenizer.encode_ordinary(text), tokenizer.encode_parts(parts)
    wrong: list[object] = []

    def work() -> None:
        for _ in range(rounds):
            found = tokenizer.encode_ordinary(text), tokenizer.encode_parts(parts)
            if found != expected or controls_in(found[0], tokenizer):
                wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_threads_encode_alike(tokenizer: Aquila2Tokenizer) -> None:
    """P15: text and prompts at once, from four threads."""
    threads_agree(tokenizer, 50)


@pytest.mark.slow
def test_threads_encode_alike_for_long(tokenizer: Aquila2Tokenizer) -> None:
    """P15: the longer run."""
    threads_agree(tokenizer, 5000)
