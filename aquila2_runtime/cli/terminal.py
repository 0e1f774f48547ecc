"""Text for terminals: model output without control sequences, notes on stderr. It knows no model.

A model's text may carry escape sequences that move the cursor, rename the window or write to the
clipboard. ``TerminalText`` removes them as the text streams; a sequence that is never finished
loses its introducer and shows as plain text, so nothing can be hidden behind it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import sys
from typing import Any, Final, Self

# Strings (OSC, DCS, SOS, PM, APC) end with BEL or ST; no class holds an introducer, so that every
# match is linear in the text.
_BODY: Final = "[^\x07\x1b\x90\x98\x9b-\x9f]*"
_SEQUENCE: Final = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"
    f"|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f]){_BODY}(?:\x07|\x1b\\\\|\x9c)"
    "|\x1b[ -/]*[0-~]"
)
_UNFINISHED: Final = re.compile(
    "(?:(?:\x1b\\[|\x9b)[0-?]*[ -/]*"
    f"|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f]){_BODY}\x1b?"
    "|\x1b[ -/]*)\\Z"
)
# Every other control but tab and newline, and the marks that reorder what is displayed.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_MAX_HELD: Final = 256


class TerminalText:
    r"""Removes control sequences from streamed text.

    Example:
        >>> text = TerminalText()
        >>> text.feed("a\x1b[3") + text.feed("1mb") + text.finish()
        'ab'
    """

    def __init__(self, *, raw: bool = False) -> None:
        self._raw = raw
        self._held = ""

    def feed(self, text: str) -> str:
        """Return what can be shown now; the start of a sequence waits for its end."""
        if self._raw:
            return text
        text = self._held + text
        found = _UNFINISHED.search(text)
        if found is None or len(text) - found.start() > _MAX_HELD:
            self._held = ""
        else:
            self._held = text[found.start() :]
            text = text[: found.start()]
        return _strip(text)

    def finish(self) -> str:
        """Return what was waiting, without its introducer."""
        held, self._held = self._held, ""
        return _strip(held)


def clean(text: str) -> str:
    """Remove control sequences from a whole text."""
    return _strip(text)


def _strip(text: str) -> str:
    return _CONTROLS.sub("", _SEQUENCE.sub("", text))


def to_json(value: Any) -> str:
    """One line of JSON that is safe to print: Chinese as it is, every control escaped.

    Where standard output is in no UTF, what is not ASCII is escaped: it would be lost there.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    line = json.dumps(value, ensure_ascii=not encoding.lower().startswith("utf"), allow_nan=False)
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def say(text: str = "", *, end: str = "\n") -> None:
    """Write an answer to stdout at once.

    Raises:
        OSError: It cannot be written, or the program was started without a standard output.
    """
    if sys.stdout is None:
        raise OSError(errno.EBADF, "Standard output is closed")
    sys.stdout.write(text + end)
    sys.stdout.flush()


def note(text: str) -> None:
    """Write a remark to stderr."""
    _remark(clean(text) + "\n")


def _remark(text: str) -> None:
    """Write to stderr if there is one; an answer is not given up because a remark is lost."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


class ProgressLine:
    """Shows on stderr what takes time: one moving line on a terminal, else a line a stage.

    As a context it clears the moving line at its end.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._stage = ""
        self._moving = sys.stderr is not None and sys.stderr.isatty()
        self._width = 0

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Take a report of the runtime: stage, done and total units."""
        if self._quiet:
            return
        if not self._moving:
            if stage != self._stage:
                note(f"{stage} …")
        else:
            line = f"{stage} … {_amount(done, total)}".rstrip()
            _remark("\r" + line.ljust(self._width))
            self._width = len(line)
        self._stage = stage
        if total and done >= total:
            self.end()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Clear the moving line."""
        self.end()

    def end(self) -> None:
        """Clear the moving line."""
        if self._moving and self._width:
            _remark("\r" + " " * self._width + "\r")
            self._width = 0


def _amount(done: int, total: int | None) -> str:
    if not total:
        return ""
    if total < 2**20:
        return f"{done}/{total}"
    return f"{done / 2**20:.0f}/{total / 2**20:.0f} MiB"
