"""Ids to text as they come: whole characters, nothing lost, in linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquila2_runtime.detokenizer import IncrementalDetokenizer
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from tests.text.support import PROSE


def deltas(ids: list[int], tokenizer: Aquila2Tokenizer) -> list[str]:
    stream = IncrementalDetokenizer(tokenizer)
    return [*map(stream.add, ids), stream.finish()]


@given(data=st.data())
def test_deltas_joined_are_the_decoded_text(
    data: st.DataObject, tokenizer: Aquila2Tokenizer
) -> None:
    """D1, D2: for any ids; a delta has U+FFFD only where the text has."""
    ids = data.draw(st.lists(st.integers(0, tokenizer.n_vocab - 1), max_size=60))
    found = deltas(ids, tokenizer)
    assert "".join(found) == tokenizer.decode(ids)


@given(data=st.data())
def test_single_bytes_come_out_as_the_text_has_them(
    data: st.DataObject, small: Aquila2Tokenizer
) -> None:
    """D1, D3: rich in broken characters; at most three bytes are held back."""
    byte_ids = [at for at in range(small.n_vocab) if len(small.token_bytes(at)) == 1]
    ids = data.draw(st.lists(st.sampled_from(byte_ids), max_size=60))
    stream = IncrementalDetokenizer(small)
    shown = ""
    for count, token_id in enumerate(ids, 1):
        shown += stream.add(token_id)
        # What is shown stands in the final text, all but the last three bytes of it.
        least = small.decode(ids[: max(count - 3, 0)]).rstrip("\ufffd")
        assert shown.startswith(least)
        assert small.decode(ids).startswith(shown)
    assert shown + stream.finish() == small.decode(ids)


@pytest.mark.parametrize("text", ["🙂", "👨‍👩‍👧‍👦", "𠮷", "龘", "é", *PROSE])
def test_characters_split_over_tokens_arrive_whole(text: str, tokenizer: Aquila2Tokenizer) -> None:
    """D2: emoji, families of them, rare characters."""
    found = deltas(tokenizer.encode_ordinary(text), tokenizer)
    assert "".join(found) == text
    assert not any("\ufffd" in delta for delta in found)


@pytest.mark.parametrize("byte", [0x80, 0xFF, 0xC0, 0xF0, 0xE4])
def test_stray_bytes_never_block(byte: int, tokenizer: Aquila2Tokenizer) -> None:
    """D4: 2,000 of them come out as they come, at most one of them late."""
    stray = next(
        at for at in range(tokenizer.n_vocab) if tokenizer.token_bytes(at) == bytes([byte])
    )
    stream = IncrementalDetokenizer(tokenizer)
    shown = 0
    for count in range(2000):
        shown += len(stream.add(stray))
        assert shown >= count
    assert shown + len(stream.finish()) == 2000


def test_control_tokens_are_no_text(tokenizer: Aquila2Tokenizer) -> None:
    """D8: none of them, anywhere."""
    ids = tokenizer.encode_ordinary("你好")
    for control in tokenizer.control_ids.values():
        assert deltas([control, *ids, control], tokenizer)[1:-2] == deltas(ids, tokenizer)[:-1]
        assert "".join(deltas([control, *ids, control], tokenizer)) == "你好"


@pytest.mark.parametrize("text", ["\0", "\ufeffx", " x", "a\r\nb", "  x", "\u202e"])
def test_unusual_characters_survive(text: str, tokenizer: Aquila2Tokenizer) -> None:
    """D9: exactly."""
    assert "".join(deltas(tokenizer.encode_ordinary(text), tokenizer)) == text


def test_a_new_stream_knows_nothing_of_a_prompt(tokenizer: Aquila2Tokenizer) -> None:
    """D5: half a character at the end of a prompt does not join the answer's first token."""
    ids = tokenizer.encode_ordinary("🙂")
    assert "".join(deltas(ids[1:], tokenizer)) == tokenizer.decode(ids[1:])
    assert "🙂" not in "".join(deltas(ids[1:], tokenizer))


def test_twenty_thousand_tokens_are_quick(tokenizer: Aquila2Tokenizer) -> None:
    """D10: linear; a quadratic one would take minutes."""
    ids = (tokenizer.encode_ordinary("".join(PROSE)) * 1000)[:20_000]
    start = time.perf_counter()
    assert "".join(deltas(ids, tokenizer)) == tokenizer.decode(ids)
    assert time.perf_counter() - start < 10
