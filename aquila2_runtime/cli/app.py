"""The commands of ``aquila2``, gathered. It does nothing itself."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aquila2_runtime.cli.bench import bench
from aquila2_runtime.cli.chat import chat
from aquila2_runtime.cli.convert import convert
from aquila2_runtime.cli.doctor import doctor
from aquila2_runtime.cli.download import download
from aquila2_runtime.cli.generate import generate
from aquila2_runtime.cli.serve import serve
from aquila2_runtime.version import __version__

app = typer.Typer(
    name="aquila2",
    help="Run Aquila2 language models on this machine.",
    no_args_is_help=True,
    add_completion=False,
    # A plain traceback under --debug; the decorated one prints local variables, prompts included.
    pretty_exceptions_enable=False,
)
app.command()(chat)
app.command()(generate)
app.command()(download)
app.command()(convert)
app.command()(doctor)
app.command()(serve)
app.command()(bench)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aquila2 {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Run Aquila2 language models on this machine."""
    # A terminal that cannot show a character shows a question mark instead of failing. What it
    # sends that is no character is refused with the message it stands in, and not before.
    for stream, errors in (
        (sys.stdin, "surrogateescape"),
        (sys.stdout, "replace"),
        (sys.stderr, "replace"),
    ):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=errors)
