"""Model text on a terminal: control sequences go, everything else stays."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquila2_runtime.cli.terminal import ProgressLine, TerminalText, clean, note, say, to_json
from aquila2_runtime.cli.texts import input_text
from tests.cli.conftest import Run

ATTACKS = {
    "colour": ("\x1b[31mred\x1b[0m", "red"),
    "clear screen": ("a\x1b[2Jb", "ab"),
    "cursor": ("a\x1b[10;20Hb", "ab"),
    "window title": ("a\x1b]0;owned\x07b", "ab"),
    "title ended by ST": ("a\x1b]0;owned\x1b\\b", "ab"),
    "clipboard": ("\x1b]52;c;ZXZpbA==\x07x", "x"),
    "hyperlink": ("\x1b]8;;http://evil\x1b\\here\x1b]8;;\x1b\\", "here"),
    "device control": ("a\x1bPq payload\x1b\\b", "ab"),
    "one-byte CSI": ("a\x9b31mb", "ab"),
    "one-byte OSC": ("a\x9d0;t\x9cb", "ab"),
    "reset": ("a\x1bcb", "ab"),
    "character set": ("a\x1b(0b", "ab"),
    "carriage return": ("safe\roverwritten", "safeoverwritten"),
    "backspace": ("ab\x08\x08", "ab"),
    "bell": ("a\x07b", "ab"),
    "null": ("a\x00b", "ab"),
    "right-to-left override": ("a\u202egpj.exe", "agpj.exe"),
    "windows line end": ("a\r\nb", "a\nb"),
}


@pytest.mark.parametrize(("text", "shown"), ATTACKS.values(), ids=ATTACKS)
def test_control_sequences_are_removed(text: str, shown: str) -> None:
    """W7: whole at once."""
    assert clean(text) == shown


@pytest.mark.parametrize(("text", "shown"), ATTACKS.values(), ids=ATTACKS)
def test_sequences_split_over_deltas_are_removed(text: str, shown: str) -> None:
    """W7: one character at a time, as a stream may bring them."""
    terminal = TerminalText()
    assert "".join(map(terminal.feed, text)) + terminal.finish() == shown


@pytest.mark.parametrize("text", ["龘 😀 👨‍👩‍👧‍👦 ok", "tab\tand\nline", "[31m", "a]0;b"])
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", '"山"'), ("UTF-16", '"山"'), ("cp1252", '"\\u5c71"'), ("ascii", '"\\u5c71"')],
)
def test_json_loses_nothing_where_output_is_in_no_utf(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    line = to_json({"text": "山"})
    assert line == f'{{"text": {shown}}}'
    assert json.loads(line.encode(encoding).decode(encoding)) == {"text": "山"}


def test_nothing_is_hidden_behind_a_sequence_that_never_ends() -> None:
    """W7: an open string shows as text instead of swallowing what follows."""
    terminal = TerminalText()
    assert terminal.feed("a\x1b]0;b") == "a"
    assert terminal.finish() == "0;b"


def test_what_is_held_back_is_bounded() -> None:
    terminal = TerminalText()
    shown = terminal.feed("\x1b]") + "".join(terminal.feed("x") for _ in range(300))
    assert len(shown) + len(terminal.finish()) == 300
    assert len(shown) > 0


def test_a_flood_of_introducers_costs_linear_time() -> None:
    """W7: 300,000 of them; quadratic work would run into the suite's time limit."""
    assert clean("\x9d" * 300_000) == ""
    assert clean("\x1b]" * 150_000 + "x").endswith("x")


def test_raw_output_is_passed_through() -> None:
    terminal = TerminalText(raw=True)
    assert terminal.feed("\x1b[31") + terminal.feed("m") + terminal.finish() == "\x1b[31m"


@given(st.text(st.sampled_from("\x1b\x9b\x9d\x90\x9c\x07[]P\\;0m@ a中\u202e\r\n")), st.data())
def test_no_split_lets_a_control_through(text: str, data: st.DataObject) -> None:
    """W7: whatever the deltas, no control character but tab and newline is shown."""
    cut = data.draw(st.integers(0, len(text)))
    terminal = TerminalText()
    shown = terminal.feed(text[:cut]) + terminal.feed(text[cut:]) + terminal.finish()
    assert not set(shown) & set("\x1b\x9b\x9d\x90\x9c\x07\u202e\r")
    assert shown.count("中") <= text.count("中")


@given(st.text())
def test_json_lines_read_back_and_hold_no_control(text: str) -> None:
    """W7: JSON loses nothing; controls are escaped."""
    line = to_json({"text": text})
    assert json.loads(line) == {"text": text}
    assert not [c for c in line if ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e"]


def test_a_lost_remark_stops_nothing_and_a_lost_answer_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    note("nobody reads this")
    ProgressLine()("loading", 1, 2)
    assert input_text() is None
    with pytest.raises(OSError, match="Standard output is closed"):
        say("yes")
    reading, writing = os.pipe()
    os.close(reading)
    gone = os.fdopen(writing, "w")
    monkeypatch.setattr(sys, "stderr", gone)
    note("the reader went away")
    with contextlib.suppress(BrokenPipeError):
        gone.close()


def test_a_long_prompt_shows_that_it_is_read(
    aquila2: Run, demo_flags: list[str], tmp_path: Path
) -> None:
    """Long work shows progress on stderr, never on stdout; --quiet shows none."""
    sentences = {"plain": "The ferry leaves at eight and at noon. ", "--json": "A boat is here. "}
    for form, sentence in sentences.items():
        # A text of its own each: what was read before is not read again.
        (tmp_path / "long.txt").write_text(sentence * 60, "utf-8")
        flags = ["--document", str(tmp_path / "long.txt"), *demo_flags, "--max-tokens", "2"]
        shape = [form] if form.startswith("-") else []
        done = aquila2("generate", "When does it leave?", *flags, *shape)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("prefill …\n") == 1
        assert "prefill" not in done.stdout
    assert aquila2("generate", "When?", *flags, "--quiet").stderr == ""
    text = "The tram stops at every corner. " * 60
    done = aquila2("chat", *demo_flags, "--max-tokens", "2", stdin=f"{text}\nHello!\n")
    assert done.stderr.count("prefill …\n") == 1


def test_on_a_terminal_the_line_is_gone_once_all_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    line = ProgressLine()
    line("prefill", 512, 900)
    line("prefill", 900, 900)
    shown = capsys.readouterr().err
    assert "prefill … 512/900" in shown
    assert shown.endswith("\r" + " " * len("prefill … 900/900") + "\r")
