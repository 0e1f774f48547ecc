"""Words with remembered ids: the ids of a text are exactly those of the text encoded at once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquila2_runtime import word_ids
from aquila2_runtime.byte_level import SPLITS, ByteLevelBpe, byte_of_character
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from tests.text.support import PROSE

# What cutting could go wrong at: contractions, runs of spaces of every kind, marks, other scripts.
CHARACTERS = (
    "aZ09 '’\".,;:!?()[]{}<>|#*/\\-_@~`^$+=%&\t\n\r\v\f\x1c\x85\xa0\u2028\u3000\u200b\ufeff"
    "é\u0301ß中文，。！？；：、（）…—🙂\U00020bb7²Ⅷ٣½\u0e33"
)
PIECES = (
    *CHARACTERS,
    "  ",
    "\n\n",
    " \n",
    "'s",
    "'LL",
    "don't",
    "###",
    "1234",
    " 中",
    "。\n",
    "a b",
)
TRICKY = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


def encoder(split: str) -> ByteLevelBpe:
    """Bytes, and some merges across everything that a wrong cut would tear apart."""
    spelt = {byte: character for character, byte in byte_of_character().items()}
    vocab = {character: at for at, character in enumerate(spelt.values())}
    merges: list[tuple[str, str]] = []
    for text in ("  ", "\n\n", " \n", "\r\n", "'s", "do", ".\n", "!!", " a", " 中", "12", "。\n"):
        first, *others = (spelt[byte] for byte in text.encode())
        for other in others:
            merges.append((first, other))
            first += other
            vocab.setdefault(first, len(vocab))
    return ByteLevelBpe(vocab, list(dict.fromkeys(merges)), split=split)


ENCODERS = {split: encoder(split) for split in SPLITS}


def check(text: str) -> None:
    """Words are cut as the text is, and ids are those of the text encoded at once."""
    for split, own in ENCODERS.items():
        cut = own._tokenizer.pre_tokenizer.pre_tokenize_str
        words = word_ids._BORDER.split(text)
        apart = [piece for word in words for piece, _ in cut(word)]
        assert apart == [piece for piece, _ in cut(text)], (split, text)
        at_once = own._tokenizer.encode(text, add_special_tokens=False).ids
        assert own.encode(text) == own._encode_apart(text) == at_once, (split, text)


@given(text=TRICKY)
def test_words_have_the_ids_of_the_whole_text_under_every_expression(text: str) -> None:
    """P3: whatever stands beside a border."""
    check(text)


@pytest.mark.slow
@settings(max_examples=20_000)
@given(text=st.one_of(TRICKY, st.text(st.characters(codec="utf-8"), max_size=60)))
def test_20000_texts_have_the_same_ids_word_by_word(text: str) -> None:
    """P3: the whole run."""
    check(text)


def test_every_pair_of_characters_around_a_word_is_cut_alike() -> None:
    """P3: all neighbours of a border, with a letter, a space and a mark behind them."""
    for first in CHARACTERS:
        for second in CHARACTERS:
            check(f"a{first}{second}b {first}{second}。{second}\n{first}")


@pytest.mark.parametrize("seed", range(3))
def test_long_texts_are_encoded_block_by_block(seed: int, tokenizer: Aquila2Tokenizer) -> None:
    """P3: also where a text has no border for a while, or none at all."""
    chooser = random.Random(seed)
    pieces: Sequence[str] = (*PROSE, *PIECES, "x" * 9_000, "中" * 5_000, " " * 9_000, "é" * 5_000)
    text = "".join(chooser.choice(pieces) for _ in range(300))
    assert len(text) > 3 * word_ids._BLOCK
    own = tokenizer._encoder
    assert isinstance(own, ByteLevelBpe)
    for given_text in (text, "é" * 30_000, ""):
        at_once = own._tokenizer.encode(given_text, add_special_tokens=False).ids
        assert tokenizer.encode_ordinary(given_text) == at_once


def test_words_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """C13: memory is bounded, by number and by length."""
    monkeypatch.setattr(word_ids, "_WORDS", 50)
    own = encoder("GPT-2")
    known = own._words._known
    for number in range(500):
        assert own.encode(f"w{number}") == own._encode(f"w{number}")
        assert len(known) <= 50
    own.encode("y" * 33)
    assert "y" * 33 not in known


def test_texts_are_forgotten_when_they_are_too_long_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """C13: whatever their number; short ones are not remembered at all."""
    monkeypatch.setattr(word_ids, "_REMEMBERED", 5_000)
    own = encoder("GPT-2")
    texts = own._words._texts
    for number in range(50):
        text = f"{number} " * 200
        assert own.encode(text) == own._encode(text)
        assert text in texts
        assert sum(map(len, (*texts.keys(), *texts.values()))) <= 5_000
    own.encode("a b " * 60)
    assert "a b " * 60 not in texts


def test_a_text_that_grows_is_encoded_from_where_it_grew() -> None:
    """C8: a document before every next question; the ids are those of the whole text."""
    own, document = encoder("GPT-2"), " ".join(f"{number} words." for number in range(3_000))
    encoded: list[str] = []
    words = own._words._words

    def counted(text: str) -> list[int]:
        encoded.append(text)
        return words(text)

    own._words._words = counted  # type: ignore[method-assign]
    for question in ("Who?", "When was it, and where?", ""):
        text = f"{document} {question}"
        encoded.clear()
        assert own.encode(text) == own._encode_apart(text)
        again = sum(map(len, encoded))
        assert again == len(text) if question == "Who?" else again < 2 * word_ids._BLOCK


def test_ids_that_were_given_can_be_changed(tokenizer: Aquila2Tokenizer) -> None:
    """P3: they are nobody else's."""
    text = "some words, and more. " * 50
    ids = tokenizer.encode_ordinary(text)
    expected = list(ids)
    ids.clear()
    assert tokenizer.encode_ordinary(text) == expected


def test_threads_that_encode_and_forget_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """P15: while others clear what is remembered."""
    monkeypatch.setattr(word_ids, "_WORDS", 3)
    monkeypatch.setattr(word_ids, "_REMEMBERED", 900)
    own, wrong = encoder("GPT-2"), list[str]()
    texts = [f"one{number} two, three{number}! " * (1 + number % 2 * 20) for number in range(20)]
    expected = [own._encode(text) for text in texts]

    def work() -> None:
        for _ in range(50):
            wrong.extend(
                text for text, ids in zip(texts, expected, strict=True) if own.encode(text) != ids
            )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


LONG = {
    "words": " ".join(f"word{number * 7919}" for number in range(60_000)),
    "Chinese": "图书馆搬到了新楼" * 50_000,
    "no border": "é" * 400_000,
}


@pytest.mark.parametrize("kind", LONG)
def test_other_threads_run_while_a_long_text_is_encoded(
    kind: str, tokenizer: Aquila2Tokenizer
) -> None:
    """C8: with borders and without; once the interpreter's lock was held to the end."""
    turns, done = 0, threading.Event()

    def work() -> None:
        tokenizer.encode_ordinary(LONG[kind])
        done.set()

    worker = threading.Thread(target=work)
    worker.start()
    while not done.is_set():
        turns += 1
        time.sleep(0.001)
    worker.join()
    assert turns > 5
