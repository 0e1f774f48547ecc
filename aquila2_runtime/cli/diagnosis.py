"""What ``doctor`` finds out about this machine and a checkpoint. It prints and fetches nothing."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from aquila2_runtime.checkpoint.config import ModelConfig, read_config
from aquila2_runtime.checkpoint.released_sizes import released_config
from aquila2_runtime.checkpoint.resolve import ResolvedCheckpoint, resolve
from aquila2_runtime.errors import Aquila2Error, InsufficientMemoryError, ModelNotFoundError
from aquila2_runtime.load_options import LoadOptions
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from aquila2_runtime.version import __version__

_CORE: Final = (
    "torch", "transformers", "tokenizers", "safetensors", "accelerate", "pydantic",
    "huggingface_hub",
)  # fmt: skip
_OPTIONAL: Final = (
    "langchain-core", "llama-index-core", "bitsandbytes", "triton", "flash-attn", "llguidance",
    "peft", "sentencepiece", "modelscope",
)  # fmt: skip
_VARIABLES: Final = (
    "HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN", "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
)  # fmt: skip
_SECRET: Final = ("HF_TOKEN",)
_GIB: Final = 2**30


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        ok: Whether it is as it should be.
        detail: What was found, or what is wrong and what to do.
    """

    name: str
    ok: bool
    detail: str


def describe_system() -> dict[str, dict[str, Any]]:
    """Versions, machine and environment, as plain values."""
    return {
        "versions": {
            "aquila2": __version__,
            "python": platform.python_version(),
            **{name: _version(name) or "missing" for name in _CORE},
            **{name: found for name in _OPTIONAL if (found := _version(name))},
        },
        "machine": {"system": platform.platform(), "cpus": os.cpu_count(), **_devices()},
        "environment": {
            name: "set" if name in _SECRET else os.environ[name]
            for name in _VARIABLES
            if os.environ.get(name)
        },
    }


def check_checkpoint(options: LoadOptions, *, deep: bool) -> Iterator[Check]:
    """Look at a checkpoint step by step; a step that fails ends the look.

    Of a released model that is not on this machine, what it would need is still said.

    Args:
        options: As for loading.
        deep: Read every weight and look for numbers that are not finite.
    """
    try:
        yield from _steps(options, deep=deep)
    except Aquila2Error as error:
        yield _failed(error)


def _steps(options: LoadOptions, *, deep: bool) -> Iterator[Check]:
    try:
        found = resolve(
            options.model,
            source=options.source,
            revision=options.revision,
            cache_dir=options.cache_dir,
            allow_pickle=options.allow_pickle,
            offline=True,
        )
    except ModelNotFoundError as error:
        # Of another revision the sizes may be others.
        config = None if options.revision else released_config(options.model)
        if config is None:
            raise
        yield _failed(error)
        yield Check("config", ok=True, detail=f"as released: {_shape(config)}")
        yield from _memory(config, options)
        return
    yield Check("files", ok=True, detail=_where(found))
    config = read_config(found.path)
    yield Check("config", ok=True, detail=_shape(config))
    tokenizer = Aquila2Tokenizer.load(
        found.path, vocab_size=config.vocab_size, allow_unknown=options.allow_unknown_tokenizer
    )
    detail = f"{tokenizer.kind}, {tokenizer.n_vocab} ids"
    yield Check("tokenizer", tokenizer.eos_token_id == config.eos_token_id, detail)
    template = found.template or "none known; chat needs template="
    yield Check("template", ok=True, detail=template)
    yield from _weights(found.path, config, options, deep=deep)
    yield from _memory(config, options)


def _failed(error: Aquila2Error) -> Check:
    detail = f"{error.message} {error.hint}" if error.hint else error.message
    return Check(type(error).__name__, ok=False, detail=detail)


def _weights(
    path: Path, config: ModelConfig, options: LoadOptions, *, deep: bool
) -> Iterator[Check]:
    from aquila2_runtime.checkpoint.verify import verify_weights

    files = verify_weights(path, config, allow_pickle=options.allow_pickle)
    size = sum(file.stat().st_size for file in files.files)
    detail = f"{len(files.files)} file(s), {_amount(size)}, every tensor in its place"
    yield Check("weights", ok=True, detail=detail)
    if deep:
        from aquila2_runtime.cli.sweep import not_finite

        bad = not_finite(files.files)
        detail = f"not finite: {', '.join(bad[:5])}" if bad else "every number is finite"
        yield Check("numbers", ok=not bad, detail=detail)


def _memory(config: ModelConfig, options: LoadOptions) -> Iterator[Check]:
    from aquila2_runtime.cache_size import check_asked
    from aquila2_runtime.fits import free_memory, settle, ways_that_fit
    from aquila2_runtime.placement import choose, type_name, with_stored_form

    options = with_stored_form(options, config)
    placement = choose(options, config)
    reasons = placement.reasons
    dtype = type_name(placement.dtype)
    length = options.max_model_len or config.max_position
    free = free_memory(placement.candidates)
    rooms = ", ".join(
        f"{device} with {_amount(room)} free"
        for device, room in zip(placement.candidates, free, strict=True)
    )
    yield Check("device", ok=True, detail=f"{rooms}: {reasons['device']}")
    yield Check("dtype", ok=True, detail=f"{dtype}: {reasons['dtype']}")
    attention = f"{placement.attention}: {reasons['attention']}"
    yield Check("attention", ok=True, detail=attention)
    try:
        settled, needed = settle(options, config, placement, length)
    except InsufficientMemoryError:
        ways = "; ".join(map(str, ways_that_fit(options, config, free)))
        yield Check("would fit", ok=bool(ways), detail=ways or "nothing on these devices")
        raise
    check_asked(options, config, settled, needed)
    where = ", ".join(str(stage.device) for stage in settled.stages)
    detail = f"fits at {length} tokens on {where}; {_amount(sum(free))} free\n{needed.table()}"
    yield Check("memory", ok=True, detail=detail)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    """GPUs and the memory of this machine, as far as they can be asked."""
    facts: dict[str, Any] = {"memory": _attempt(_total_memory)}
    facts["gpus"] = _attempt(_gpus)
    return facts


def _attempt(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return f"unknown ({type(error).__name__}: {error})"


def _total_memory() -> str:
    # Not on Windows, where these names do not exist: ValueError.
    pages = os.sysconf("SC_PHYS_PAGES")
    return f"{pages * os.sysconf('SC_PAGE_SIZE') / _GIB:.1f} GiB"


def _gpus() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"none that torch {torch.__version__} can use"
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return ", ".join(f"{gpu.name}, {gpu.total_memory / _GIB:.0f} GiB" for gpu in found)


def _where(found: ResolvedCheckpoint) -> str:
    commit = f", commit {found.revision}" if found.revision else ""
    return f"{found.path} ({found.source}{commit})"


def _amount(size: int) -> str:
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size / 2**20:.1f} MiB"


def _shape(config: ModelConfig) -> str:
    millions = config.num_parameters / 1e6
    return (
        f"{millions:,.0f} M parameters, {config.num_layers} layers, vocabulary "
        f"{config.vocab_size}, context {config.max_position}"
    )
