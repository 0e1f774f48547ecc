"""The LoRA adapters of one load: from names and directories to a running model's bank.

It knows no request. Adapters beside the weights are keyed by their contents, so that runtimes that
share a model may each use names of their own; one that is merged changes the weights, and is part
of what the model itself is keyed by.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aquila2_runtime.checkpoint.lora import (
    AdapterFiles,
    check_adapter,
    read_adapter,
    warn_of_other_base,
)
from aquila2_runtime.errors import EngineClosedError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.engine.lora import LoraBank
    from aquila2_runtime.engine.torch_engine import TorchEngine
    from aquila2_runtime.load_options import LoadOptions
    from aquila2_runtime.registry import LoadedModel

_POLL_SECONDS = 0.2


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


def add_to_bank(bank: LoraBank, adapters: Sequence[AdapterFiles]) -> None:
    """Read adapters that are not there yet; called in the thread that owns the model.

    Raises:
        WeightsError: An adapter's file changed, or holds NaN or infinity.
    """
    for files in adapters:
        if files.digest not in bank:
            bank.add(files.digest, read_adapter(files), files.config.scaling)


def attach(model: LoadedModel, adapters: Sequence[AdapterFiles]) -> None:
    """Add adapters to a model that is running, between two of its steps.

    Raises:
        WeightsError: As for :func:`add_to_bank`.
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
            if done.done():
                raise
            if not engine.healthy:
                raise EngineClosedError(
                    f"The runtime of {engine.name} was closed while an adapter was added.",
                    hint="Load the checkpoint again.",
                ) from None
