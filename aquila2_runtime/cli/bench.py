"""``aquila2 bench``: how fast a checkpoint answers on this machine. It compares with nothing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aquila2_runtime.cli import options
from aquila2_runtime.cli.failures import reported
from aquila2_runtime.cli.measure import Measure
from aquila2_runtime.cli.terminal import clean, say, to_json


def bench(
    model: Annotated[
        str, typer.Argument(help="A released name, owner/name or a directory.")
    ] = options.DEMO,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each prompt.")] = 256,
    new_tokens: Annotated[int, typer.Option(min=2, help="Tokens of each answer.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Medians are of so many rounds.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quantization: options.Quantization = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    max_model_len: options.MaxModelLen = None,
    kv_cache_dtype: options.KvCacheDtype = None,
    kv_cache_memory: options.KvCacheMemory = None,
    revision: options.Revision = None,
    source: options.Source = None,
    cache_dir: options.CacheDir = None,
    pickle: options.Pickle = True,
    offline: options.Offline = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure latency, throughput at 1, 8 and 32 requests, prefix reuse and memory."""
    with (
        reported(debug=debug),
        options.load(
            model,
            quiet=quiet,
            quantization=quantization,
            device=options.devices(device),
            dtype=dtype,
            max_model_len=max_model_len,
            kv_cache_dtype=kv_cache_dtype,
            kv_cache_memory=kv_cache_memory,
            revision=revision,
            source=source,
            cache_dir=cache_dir,
            allow_pickle=pickle,
            offline=offline,
        ) as runtime,
    ):
        found = Measure(runtime, prompt_tokens, new_tokens, rounds).all()
        if as_json:
            say(to_json(found))
        else:
            _print(found)


def _print(found: dict[str, Any]) -> None:
    for section, facts in found.items():
        say(f"{section}:")
        for name, value in facts.items():
            say(f"  {name}: {clean(str(value))}")
