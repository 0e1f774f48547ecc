"""``aquila2 download``: fetch a checkpoint without loading it."""

from __future__ import annotations

from typing import Annotated

import typer

from aquila2_runtime.checkpoint.resolve import resolve
from aquila2_runtime.cli import options
from aquila2_runtime.cli.failures import reported
from aquila2_runtime.cli.terminal import ProgressLine, say


def download(
    model: Annotated[str, typer.Argument(help="A released name or owner/name.")],
    revision: options.Revision = None,
    source: options.Source = None,
    cache_dir: options.CacheDir = None,
    pickle: options.Pickle = True,
    offline: options.Offline = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Fetch the files a checkpoint needs, and print the directory they are in."""
    with reported(debug=debug):
        with ProgressLine(quiet=quiet) as progress:
            found = resolve(
                model,
                source=source,
                revision=revision,
                cache_dir=None if cache_dir is None else str(cache_dir),
                allow_pickle=pickle,
                offline=offline or None,
                progress=progress,
            )
        say(str(found.path))
