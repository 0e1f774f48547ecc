"""Reading a verified checkpoint's weights into a model on a device. It serves no request.

transformers builds the model and places the tensors, bitsandbytes packs them; but transformers is
handed tensors, never the directory, so nothing else that lies there (code, adapters, generation
settings, other weights) can have any effect.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from aquila2_runtime.checkpoint.feed import feed
from aquila2_runtime.checkpoint.filling import memory_errors, piece_by_piece
from aquila2_runtime.checkpoint.lora import lora_updates
from aquila2_runtime.checkpoint.prequantized import Prequantized, require_bitsandbytes, settle_form
from aquila2_runtime.checkpoint.verify import WeightFiles, verify_weights
from aquila2_runtime.checkpoint.watch import Progress, Watch, cannot_hold, is_finite
from aquila2_runtime.errors import (
    Aquila2Error,
    InsufficientMemoryError,
    WeightsError,
)

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.checkpoint.lora import AdapterFiles
    from aquila2_runtime.checkpoint.register import AquilaForCausalLM
    from aquila2_runtime.checkpoint.sources import Update

# transformers changes torch's default type and its own log level while it builds a model.
_ONE_AT_A_TIME: Final = threading.Lock()


def load_weights(
    path: Path,
    config: ModelConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    allow_pickle: bool = True,
    quantization: str | None = None,
    progress: Progress | None = None,
    files: WeightFiles | None = None,
    merge: AdapterFiles | None = None,
    homes: Sequence[torch.device] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> AquilaForCausalLM:
    """Load a checkpoint's weights; every parameter is filled exactly once, and finite.

    Args:
        path: The checkpoint's directory; only read.
        config: What its config.json says.
        dtype: Type of the weights in memory (of what is computed in, when quantized).
        device: Where they go: all, or what is before the layers.
        allow_pickle: Whether ``.bin`` shards may be opened.
        quantization: None, "nf4" (double quantization) or "int8", by bitsandbytes. Weights that
            bitsandbytes packed stay as they are: None, or the form they have.
        progress: Called with "loading", bytes read and bytes in all, at each shard's end.
        files: Files already verified; None verifies them first.
        merge: A LoRA adapter to add to the weights as they are read, before any quantization.
        homes: Device of each layer; None is ``device``. The head goes with the last.
        stopped: Asked between pieces of tensors; where it says True, loading ends.

    Returns:
        The model in eval mode, its parameters without gradients.

    Raises:
        WeightsError: A file is wrong, or a tensor holds NaN or infinity (in ``dtype`` too).
        InvalidLoadOptionError: An unknown quantization, or not that of the files.
        InsufficientMemoryError: The device is full.
        MissingDependencyError: bitsandbytes is not installed.
        EngineClosedError: It was stopped.
    """
    settings = _settings(config, quantization, dtype, merge)
    if files is None:
        files = verify_weights(path, config, allow_pickle=allow_pickle)
    failure: Aquila2Error
    try:
        with _ONE_AT_A_TIME, _quiet(), piece_by_piece():
            updates = {} if merge is None else lora_updates(merge)
            places = _places(config, device, homes)
            with memory_errors(places.values()):
                watch = Watch(files, progress, stopped)
                return _load(files, config, dtype, places, settings, watch, updates)
    except WeightsError as error:
        failure = error.with_traceback(None)
    except torch.OutOfMemoryError:
        failure = InsufficientMemoryError(
            f"{device} is full: the weights of {path.name} do not fit.",
            parameter="device",
            value=str(device),
            hint='Free the device, load with quantization="nf4", or use another device.',
        )
    # Outside the handler, so that no frame keeps the half-loaded model alive.
    failure.__context__ = None
    raise failure


def _load(
    files: WeightFiles,
    config: ModelConfig,
    dtype: torch.dtype,
    places: Mapping[str, torch.device],
    settings: Any,
    watch: Watch,
    updates: Mapping[str, Update],
) -> AquilaForCausalLM:
    from aquila2_runtime.checkpoint.register import AquilaConfig, AquilaForCausalLM, register

    register()
    on_cpu = any(device.type == "cpu" for device in places.values())
    sources, stored = feed(files, config, dtype, settings, watch, updates, on_cpu=on_cpu)
    facts = AquilaConfig.of(config)
    if stored:
        # Where transformers looks for it, to expect packed tensors.
        facts.quantization_config, settings = settings.to_dict(), None
    failure: BaseException
    try:
        # Typed to give a model alone; with output_loading_info it gives a pair.
        loaded: Any = AquilaForCausalLM.from_pretrained(
            None,
            config=facts,
            state_dict=sources,
            dtype=dtype,
            device_map=dict(places),
            quantization_config=settings,
            output_loading_info=True,
        )
    except Exception:
        # transformers wraps what a tensor's reading raised; ours says which tensor it was.
        if watch.failure is None:
            raise
        failure = watch.failure
    else:
        if watch.failure is None:
            model: AquilaForCausalLM = loaded[0]
            _check_report(loaded[1])
            watch.check_counts(sources.values())
            files.check_unchanged()
            _check_finite(model, files, dtype, updates)
            model.requires_grad_(False)
            _spare_kernel(model)
            _break_cycles(model)
            model.eval()  # type: ignore[no-untyped-call, unused-ignore]
            return model
        failure = watch.failure
    raise failure


def _places(
    config: ModelConfig, device: torch.device, homes: Sequence[torch.device] | None
) -> dict[str, torch.device]:
    """Where each part of the model goes, as transformers wants to be told."""
    if homes is None or all(home == device for home in homes):
        return {"": device}
    last = homes[-1]
    return {
        "model.embed_tokens": device,
        "model.rotary_emb": device,
        **{f"model.layers.{index}": home for index, home in enumerate(homes)},
        "model.norm": last,
        # A tied head is the embedding itself, wherever that is.
        "lm_head": device if config.tie_word_embeddings else last,
    }


def _check_report(info: dict[str, Any]) -> None:
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        names = sorted(map(str, info.get(kind) or ()))
        if names:
            raise WeightsError(
                f"The model and its files do not match: {kind} {', '.join(names[:3]):.300}.",
                parameter=names[0],
                hint="Fetch the checkpoint again.",
            )


def _check_finite(
    model: torch.nn.Module, files: WeightFiles, dtype: torch.dtype, updated: Collection[str]
) -> None:
    """What was finite in the file must be so in memory: float16 ends at 65,504."""
    held = str(dtype).removeprefix("torch.")
    for name, parameter in model.named_parameters():
        info = files.tensors.get(name)
        if parameter.is_meta:
            raise WeightsError(f"Tensor {name} was not loaded.", parameter=name)
        # A tensor without a file of its own was unpacked, or is the tied head.
        changed = info is None or info.dtype != held or name in updated
        if changed and parameter.is_floating_point() and not is_finite(parameter):
            raise cannot_hold(name, dtype)


def _settings(
    config: ModelConfig, quantization: str | None, dtype: torch.dtype, merge: AdapterFiles | None
) -> Any:
    """The settings transformers hands to bitsandbytes; None is unquantized."""
    form = config.prequantized
    name = settle_form(form, quantization, None if merge is None else merge.name)
    if name is None:
        return None
    require_bitsandbytes(name)
    if name == "int8":
        # Said once per matrix product, thousands of times an answer.
        logging.getLogger("bitsandbytes.autograd._functions").addFilter(_is_no_cast)
    return (form or Prequantized(name, nested=name == "nf4")).settings(dtype)


def _is_no_cast(record: logging.LogRecord) -> bool:
    return not record.msg.startswith("MatMul8bitLt: inputs will be cast")


def _spare_kernel(model: torch.nn.Module) -> None:
    """Keep bitsandbytes' CPU kernel from 4-bit weights it cannot lay out.

    It wants whole blocks of scaled weights in every row and rows in groups of 32, which a
    feed-forward of, say, 688 numbers does not have, and fails at the first product. Without it such
    a weight is unpacked each time.
    """
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None and (state.shape[-1] % state.blocksize or state.shape[0] % 32):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def _break_cycles(model: torch.nn.Module) -> None:
    """Have nothing of the model hold what holds it.

    The engine takes modules apart: what it drops must go at once, not when Python next looks for
    cycles, which may be when the memory that is left has been given to the cache. 4-bit weights
    know the module they are in, for they need it while they are packed; on several devices
    accelerate gives every module a ``forward`` of its own that holds it.
    """
    if any(hasattr(module, "_hf_hook") for module in model.modules()):
        from accelerate.hooks import remove_hook_from_module  # type: ignore[import-untyped]

        remove_hook_from_module(model, recurse=True)
        for module in model.modules():
            module.__dict__.pop("forward", None)
    weights: list[Any] = list(model.parameters())
    for weight in weights:
        if getattr(weight, "module", None) is not None:
            weight.module = None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' bars and reports off the terminal; all they say is checked here."""
    from transformers.utils import logging as reports

    level, bars = reports.get_verbosity(), reports.is_progress_bar_enabled()
    reports.set_verbosity_error()
    reports.disable_progress_bar()
    try:
        yield
    finally:
        reports.set_verbosity(level)
        if bars:
            reports.enable_progress_bar()
