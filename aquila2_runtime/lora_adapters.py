"""The LoRA adapters of one load: from names and directories to a running model's bank.

It knows no request. Adapters beside the weights are keyed by their contents, so that runtimes that
share a model may each use names of their own; one that is merged changes the weights, and is part
of what the model itself is keyed by.
"""

from __future__ import annotations

import concurrent.futures
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from aquila2_runtime.checkpoint.adapter_config import projection_shapes
from aquila2_runtime.checkpoint.lora import (
    AdapterFiles,
    check_adapter,
    read_adapter,
    warn_of_other_base,
)
from aquila2_runtime.engine.lora import SITES
from aquila2_runtime.errors import EngineClosedError, InsufficientMemoryError

if TYPE_CHECKING:
    import torch

    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.engine.lora import LoraBank
    from aquila2_runtime.engine.torch_engine import TorchEngine
    from aquila2_runtime.load_options import LoadOptions
    from aquila2_runtime.registry import LoadedModel

_POLL_SECONDS = 0.2
# What ranks are padded to where weights are laid out for the processor, or a little less.
_CPU_RANKS: Final = 64


def check_adapters(
    options: LoadOptions, config: ModelConfig, model: str
) -> tuple[AdapterFiles, ...]:
    """Check every adapter of a load from its headers, before a weight of the base is read.

    Args:
        options: Of the load.
        config: The base model's facts.
        model: What the base model is called.

    Raises:
        CheckpointError: An adapter is missing, wrong, or of another base.
    """
    found = tuple(
        check_adapter(name, directory, config, allow_pickle=options.allow_pickle)
        for name, directory in options.adapter_pairs
    )
    for files in found:
        warn_of_other_base(files, model)
    return found


def request_keys(options: LoadOptions, adapters: Sequence[AdapterFiles]) -> dict[str, str | None]:
    """What requests may name, each with the engine's key; None where the weights hold it."""
    return {
        files.name: None if files.name == options.merge_adapter else files.digest
        for files in adapters
    }


def merged(options: LoadOptions, adapters: Sequence[AdapterFiles]) -> AdapterFiles | None:
    """The adapter to merge into the weights, if one was asked for."""
    return next((files for files in adapters if files.name == options.merge_adapter), None)


def adapter_bytes(
    config: ModelConfig,
    dtype: torch.dtype,
    device: torch.device,
    adapters: Sequence[AdapterFiles],
) -> int:
    """Memory that adapters will take beside the weights, from their headers alone.

    Args:
        config: The base model's facts.
        dtype: Type they are computed in.
        device: Where.
        adapters: Checked; one that is there under two names counts once.
    """
    shapes = projection_shapes(config)
    held = 0
    different = {files.digest: files for files in adapters}.values()
    for layer, parts in itertools.product(range(config.num_layers), SITES.values()):
        ranks = sum(
            files.config.rank for files in different for part in parts
            if (layer, part) in files.pairs
        )  # fmt: skip
        if device.type == "cpu":
            ranks = -(-ranks // _CPU_RANKS) * _CPU_RANKS
        held += ranks * (shapes[parts[0]][1] + sum(shapes[part][0] for part in parts))
    return held * dtype.itemsize


def add_to_bank(bank: LoraBank, adapters: Sequence[AdapterFiles]) -> None:
    """Read adapters that are not there yet; called in the thread that owns the model.

    Raises:
        WeightsError: An adapter's file changed, or holds NaN or infinity.
        InsufficientMemoryError: The device is full.
    """
    import torch

    for files in adapters:
        if files.digest not in bank:
            pairs = read_adapter(files)
            try:
                bank.add(files.digest, pairs, files.config.scaling)
            except torch.OutOfMemoryError as error:
                raise InsufficientMemoryError(
                    f"The adapter {files.name!r} does not fit beside the model: {error!s:.300}",
                    parameter="adapters",
                    value=files.name,
                    hint="Give it when the model is loaded, so that its cache leaves room for it, "
                    "or load with a smaller kv_cache_memory.",
                ) from None


def attach(model: LoadedModel, adapters: Sequence[AdapterFiles]) -> None:
    """Add adapters to a model that is running, between two of its steps.

    Raises:
        WeightsError: As for :func:`add_to_bank`.
        InsufficientMemoryError: Likewise.
        EngineClosedError: The model was closed meanwhile.
    """
    missing = [files for files in adapters if files.digest not in model.bank]
    if missing:
        _call(model.engine, lambda: add_to_bank(model.bank, missing))


def _call(engine: TorchEngine, function: Callable[[], None]) -> None:
    """Have the engine's thread call a function, wait, and raise here what it raises there."""
    done: concurrent.futures.Future[None] = concurrent.futures.Future()

    def settle() -> None:
        try:
            function()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    engine.call_soon(settle)
    while True:
        try:
            return done.result(_POLL_SECONDS)
        except concurrent.futures.TimeoutError:
            if done.done():  # meanwhile, or the function itself ran into a time limit
                return done.result()
            if not engine.healthy:
                raise EngineClosedError(
                    f"The runtime of {engine.name} was closed while an adapter was added.",
                    hint="Load the checkpoint again.",
                ) from None
