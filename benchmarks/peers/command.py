"""The command line of checks against peers: which rows, and where to. It checks nothing."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from benchmarks.peers.server import Server, serving
from benchmarks.report import tell


class Named(Protocol):
    """A class under test."""

    @property
    def name(self) -> str:
        """What the table calls it."""


P = TypeVar("P", bound=Named)


def run(
    description: str | None,
    rows: Mapping[str, Callable[[P], Any]],
    peers: Callable[[Server], Sequence[P]],
    packages: Sequence[str],
) -> None:
    """Check the rows the command line names, and tell what was found.

    Args:
        description: For ``--help``.
        rows: A check per row of the table.
        peers: Makes the classes under test, at a server.
        packages: Whose versions are told.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--row", action="append", help="only rows that hold this; may be repeated")
    options = parser.parse_args()
    os.environ["NO_PROXY"] = "127.0.0.1"
    wanted = [row for row in rows if not options.row or any(one in row for one in options.row)]
    with serving() as server:
        made = peers(server)
        found = {row: {peer.name: rows[row](peer) for peer in made} for row in wanted}
    versions = {name: importlib.metadata.version(name) for name in packages}
    tell({"versions": versions, "python": sys.version.split()[0], "rows": found}, options.out)
