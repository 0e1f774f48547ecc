"""Reading a verified checkpoint's weights into a model on a device. It serves no request.

transformers builds the model and places the tensors, bitsandbytes packs them; but transformers is
handed tensors, never the directory, so nothing else that lies there (code, adapters, generation
settings, other weights) can have any effect.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from aquila2_runtime.checkpoint.headers import open_bin
from aquila2_runtime.checkpoint.verify import WeightFiles, verify_weights
from aquila2_runtime.errors import (
    Aquila2Error,
    InsufficientMemoryError,
    InvalidLoadOptionError,
    MissingDependencyError,
    WeightsError,
)

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.checkpoint.register import AquilaForCausalLM

Progress = Callable[[str, int, int | None], None]

_QUANTIZATIONS: Final = ("nf4", "int8")
_HEAD: Final = "lm_head.weight"
_EMBEDDING: Final = "model.embed_tokens.weight"
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
) -> AquilaForCausalLM:
    """Load a checkpoint's weights; every parameter is filled exactly once, and finite.

    Args:
        path: The checkpoint's directory; only read.
        config: What its config.json says.
        dtype: Type of the weights in memory (of what is computed in, when quantized).
        device: Where they go.
        allow_pickle: Whether ``.bin`` shards may be opened.
        quantization: None, "nf4" (double quantization) or "int8", by bitsandbytes.
        progress: Called with "loading", bytes read and bytes in all, at each shard's end.
        files: Files already verified; None verifies them first.

    Returns:
        The model in eval mode, its parameters without gradients.

    Raises:
        WeightsError: A file is wrong, or a tensor holds NaN or infinity (in ``dtype`` too).
        InvalidLoadOptionError: An unknown quantization.
        InsufficientMemoryError: The device is full.
        MissingDependencyError: bitsandbytes is not installed.
    """
    settings = _quantization(quantization, dtype)
    if files is None:
        files = verify_weights(path, config, allow_pickle=allow_pickle)
    failure: Aquila2Error
    try:
        with _ONE_AT_A_TIME, _quiet():
            return _load(files, config, dtype, device, settings, progress)
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
    device: torch.device,
    settings: Any,
    progress: Progress | None,
) -> AquilaForCausalLM:
    from aquila2_runtime.checkpoint.register import AquilaConfig, AquilaForCausalLM, register

    register()
    watch = _Watch(files, progress)
    sources = _open(files, watch, own=device.type == "cpu")
    if config.tie_word_embeddings and _HEAD in sources:
        _check_tied(sources, watch)
        del sources[_HEAD]
    failure: BaseException
    try:
        # Typed to give a model alone; with output_loading_info it gives a pair.
        loaded: Any = AquilaForCausalLM.from_pretrained(
            None,
            config=AquilaConfig.of(config),
            state_dict=sources,
            dtype=dtype,
            device_map={"": device},
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
            watch.check_counts(sources)
            _check_finite(model, files, dtype)
            model.requires_grad_(False)
            model.eval()
            return model
        failure = watch.failure
    raise failure


class _Watch:
    """Sees every tensor as it is read: counts it, checks it, reports progress by shard."""

    def __init__(self, files: WeightFiles, progress: Progress | None) -> None:
        self.failure: BaseException | None = None
        self._files = files
        self._progress = progress
        self._lock = threading.Lock()
        self._reads: dict[str, int] = {}
        self._left: dict[Path, set[str]] = {file: set() for file in files.files}
        for name, info in files.tensors.items():
            self._left[info.file].add(name)
        self._done = 0
        self._report()

    def seen(self, name: str, tensor: torch.Tensor) -> None:
        """Check a tensor that was read; called from the loader's threads."""
        if tensor.numel() and not _finite(tensor):
            with self._lock:
                self.failure = self.failure or not_finite(name, self._files.tensors[name].file.name)
            raise self.failure
        with self._lock:
            self._reads[name] = self._reads.get(name, 0) + 1
            info = self._files.tensors[name]
            left = self._left[info.file]
            left.discard(name)
            self._done += info.num_bytes
            if not left:
                try:
                    self._report()
                except BaseException as error:
                    self.failure = self.failure or error
                    raise

    def check_counts(self, names: dict[str, Any]) -> None:
        """Every tensor was read, and once."""
        for name in names:
            if self._reads.get(name) != 1:
                raise WeightsError(
                    f"Tensor {name} was read {self._reads.get(name, 0)} times instead of once.",
                    parameter=name,
                    hint="This transformers version loads differently; report it.",
                )

    def _report(self) -> None:
        if self._progress is not None:
            self._progress("loading", self._done, self._files.num_bytes)


class _Source:
    """A tensor in a file, read when it is indexed: all that transformers asks of one."""

    def __init__(self, name: str, stored: Any, watch: _Watch, *, own: bool) -> None:
        self._name = name
        self._stored = stored
        self._watch = watch
        self._own = own

    def __getitem__(self, index: object) -> torch.Tensor:
        tensor: torch.Tensor = self._stored[index]
        if self._own and isinstance(self._stored, torch.Tensor):
            # A mapped tensor would change, or crash the process, with its file.
            tensor = tensor.clone()
        self._watch.seen(self._name, tensor)
        return tensor


def _open(files: WeightFiles, watch: _Watch, *, own: bool) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    sources: dict[str, Any] = {}
    for file in files.files:
        names = [name for name, info in files.tensors.items() if info.file == file]
        if files.format == "bin":
            stored: dict[str, Any] = dict(open_bin(file))
        else:
            try:
                handle = safe_open(file, framework="pt", device="cpu")
                stored = {name: handle.get_slice(name) for name in names}
            except SafetensorError as problem:
                raise WeightsError(
                    f"{file.name} cannot be opened: {problem!s:.200}.",
                    parameter=file.name,
                    hint="Fetch the file again.",
                ) from None
        sources |= {name: _Source(name, stored[name], watch, own=own) for name in names}
    return sources


def _check_tied(sources: dict[str, Any], watch: _Watch) -> None:
    """A head that is stored although it is tied must be the embedding."""
    head, embedding = (sources[name]._stored[...] for name in (_HEAD, _EMBEDDING))
    if not torch.equal(head, embedding.to(head.dtype)):
        raise WeightsError(
            f"{_HEAD} differs from {_EMBEDDING}, yet config.json ties them.",
            parameter=_HEAD,
            hint="Set tie_word_embeddings to false in config.json.",
        )
    watch.seen(_HEAD, head)


def _check_report(info: dict[str, Any]) -> None:
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        names = sorted(map(str, info.get(kind) or ()))
        if names:
            raise WeightsError(
                f"The model and its files do not match: {kind} {', '.join(names[:3]):.300}.",
                parameter=names[0],
                hint="Fetch the checkpoint again.",
            )


def _check_finite(model: torch.nn.Module, files: WeightFiles, dtype: torch.dtype) -> None:
    """What was finite in the file must be so in memory: float16 ends at 65,504."""
    held = str(dtype).removeprefix("torch.")
    for name, parameter in model.named_parameters():
        info = files.tensors.get(name)
        if parameter.is_meta:
            raise WeightsError(f"Tensor {name} was not loaded.", parameter=name)
        changed = info is not None and info.dtype != held
        if changed and parameter.is_floating_point() and not _finite(parameter):
            raise WeightsError(
                f"Tensor {name} has values that {held} cannot hold.",
                parameter=name,
                hint='Load with dtype="bfloat16" or "float32".',
            )


def _finite(tensor: torch.Tensor) -> bool:
    # One pass and no copy: NaN and infinity both reach the extremes.
    low, high = torch.aminmax(tensor.detach())
    return bool(torch.isfinite(low) & torch.isfinite(high))


def not_finite(name: str, file: str) -> WeightsError:
    """Say that a tensor holds NaN or infinity."""
    return WeightsError(
        f"{file}: tensor {name} holds NaN or infinity.",
        parameter=name,
        value=file,
        hint="Fetch the file again; it may be damaged.",
    )


def _quantization(name: str | None, dtype: torch.dtype) -> Any:
    """The settings transformers hands to bitsandbytes; None is unquantized."""
    if name is None:
        return None
    if name not in _QUANTIZATIONS:
        raise InvalidLoadOptionError(
            f"quantization={name!r:.60} is not known.",
            parameter="quantization",
            value=name,
            hint=f"Known: {', '.join(_QUANTIZATIONS)}.",
        )
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            f'quantization="{name}" needs the bitsandbytes package.',
            parameter="quantization",
            value=name,
            hint="Install it: pip install 'aquila2[nf4]'.",
        ) from None
    from transformers import BitsAndBytesConfig

    if name == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' bars and reports off the terminal; all they say is checked here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
