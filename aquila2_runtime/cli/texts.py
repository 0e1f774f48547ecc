"""Texts that commands are given: files and standard input, in UTF-8. It knows no command."""

from __future__ import annotations

import sys
from pathlib import Path

from aquila2_runtime.cli.failures import wrong


def file_text(path: Path) -> str:
    """Return a file's text; a byte order mark at its head is not a part of it.

    Raises:
        typer.Exit: It is not UTF-8; what and where was said.
        OSError: It cannot be read.
    """
    return _decoded(path.read_bytes(), str(path))


def input_text() -> str | None:
    """Return all of standard input without its last line break; None where nobody gave any.

    Raises:
        typer.Exit: It is not UTF-8; what and where was said.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return None
    return _decoded(sys.stdin.buffer.read(), "Standard input").removesuffix("\n")


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Behind a mark, Python counts from the mark's end.
        place = error.start + len(data) - len(error.object)
        raise wrong(
            f"{name} is not UTF-8: byte 0x{data[place]:02x} at position {place}.",
            "Convert it first, for example: iconv -f GB18030 -t UTF-8",
        ) from error
