"""``aquila2 convert``: write a checkpoint's weights anew as safetensors, smaller or packed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aquila2_runtime.checkpoint.convert import convert_checkpoint
from aquila2_runtime.checkpoint.resolve import resolve
from aquila2_runtime.cli import options
from aquila2_runtime.cli.failures import reported, wrong
from aquila2_runtime.cli.terminal import ProgressLine, say

# "source" is the checkpoint here; the option is the other commands'.
Hub = Annotated[str | None, typer.Option("--source", "--hub", help="huggingface or modelscope.")]


def convert(
    source: Annotated[
        str, typer.Argument(help="A released name, owner/name on a hub, or a directory.")
    ],
    destination: Annotated[
        Path | None, typer.Argument(help="The new directory; it must not exist.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The same as an option.")] = None,
    dtype: Annotated[
        str,
        typer.Option(help="float16, bfloat16 or float32; auto is config.json's, 16 bits."),
    ] = "auto",
    quantization: Annotated[
        str | None,
        typer.Option(help="nf4 or int8: pack the layers' projections, as transformers saves them."),
    ] = None,
    revision: options.Revision = None,
    hub: Hub = None,
    cache_dir: options.CacheDir = None,
    pickle: options.Pickle = True,
    offline: options.Offline = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Convert weights (.bin, safetensors, GPTQ, AWQ) into safetensors; prints the new directory."""
    with reported(debug=debug):
        target = destination or out
        if target is None or None not in (destination, out):
            raise wrong("Name the new directory once: as the second argument, or by --out.")
        with ProgressLine(quiet=quiet) as progress:
            found = resolve(
                source,
                source=hub,
                revision=revision,
                cache_dir=None if cache_dir is None else str(cache_dir),
                allow_pickle=pickle,
                offline=offline or None,
                progress=progress,
            )
            made = convert_checkpoint(
                found.path,
                target,
                dtype=dtype,
                quantization=quantization,
                allow_pickle=pickle,
                progress=progress,
            )
        say(str(made.path))
