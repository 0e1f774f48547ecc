"""The command ``aquila2``: says what is missing where typer is, and hands over where it is not."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; exits with 0, 1 (engine), 2 (caller) or 130 (interrupted)."""
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError as error:
        print("error: The command line needs the package typer.", file=sys.stderr)
        print('hint: pip install "aquila2[cli]"', file=sys.stderr)
        raise SystemExit(2) from error
    from aquila2_runtime.cli.app import app

    app()
