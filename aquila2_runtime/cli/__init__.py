"""The command ``aquila2``: says what is missing where typer is, and hands over where it is not."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; exits with 0, 1 (engine), 2 (caller) or 130 (interrupted)."""
    fill_standard_descriptors()
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError as error:
        print("error: The command line needs the package typer.", file=sys.stderr)
        print('hint: pip install "aquila2[cli]"', file=sys.stderr)
        raise SystemExit(2) from error
    from aquila2_runtime.cli.app import app

    app()


def fill_standard_descriptors() -> None:
    """Open the null device where the program was started without one of its standard streams.

    Otherwise the first file that is opened takes the number, a checkpoint that is being written
    for example, and what a library prints goes into it.
    """
    # Opening takes the lowest number that is free.
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        # Python's own files are not inherited by programs it starts; standard streams are.
        os.set_inheritable(opened, True)
    os.close(opened)
