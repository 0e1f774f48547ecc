"""``aquila2 doctor``: print what ``diagnosis`` finds. It downloads nothing and sends nothing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aquila2_runtime.cli import options
from aquila2_runtime.cli.diagnosis import Check, check_checkpoint, describe_system
from aquila2_runtime.cli.failures import ENGINE_FAILED, reported
from aquila2_runtime.cli.redact import Redactor
from aquila2_runtime.cli.terminal import clean, say, to_json
from aquila2_runtime.load_options import LoadOptions


def doctor(
    model: Annotated[
        str, typer.Argument(help="A released name, owner/name or a directory to check.")
    ] = options.DEMO,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every weight and look for NaN and infinity.")
    ] = False,
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
    debug: options.Debug = False,
) -> None:
    """Check versions, device, memory and a checkpoint; exits with 1 if something is wrong."""
    with reported(debug=debug):
        asked = LoadOptions(
            model=model,
            quantization=quantization,
            device=options.devices(device),
            dtype=dtype,
            max_model_len=max_model_len,
            kv_cache_dtype=kv_cache_dtype,
            kv_cache_memory=kv_cache_memory,
            revision=revision,
            source=source,
            cache_dir=None if cache_dir is None else str(cache_dir),
            allow_pickle=pickle,
        )
        redact = Redactor.of_this_process()
        system = redact.all(describe_system())
        checks = [
            Check(check.name, check.ok, redact.text(check.detail))
            for check in check_checkpoint(asked, deep=deep)
        ]
        healthy = all(check.ok for check in checks)
        if as_json:
            found = [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks]
            say(to_json({**system, "model": redact.text(model), "checks": found, "ok": healthy}))
        else:
            _print(system, redact.text(model), checks)
    if not healthy:
        raise typer.Exit(ENGINE_FAILED)


def _print(system: dict[str, Any], model: str, checks: list[Check]) -> None:
    for section, facts in system.items():
        say(f"{section}:")
        for name, value in facts.items():
            say(f"  {name}: {clean(str(value))}")
    say(f"checkpoint {clean(model)}:")
    for check in checks:
        say(f"  {'ok     ' if check.ok else 'PROBLEM'} {check.name}: {clean(check.detail)}")
