"""Devices and number types that a load may have, each with its reason. They know no memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn

import torch

from aquila2_runtime.engine.attention.select import choose_attention
from aquila2_runtime.engine.linear import multiplies_bfloat16, packing_of
from aquila2_runtime.errors import InvalidLoadOptionError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.load_options import LoadOptions

# On CPU fp32 costs little below this many parameters.
_SMALL_MODEL: Final = 500_000_000
# The compute capability of the first GPUs that multiply bfloat16.
_BFLOAT16_FROM: Final = (8, 0)


def visible_gpus() -> tuple[torch.device, ...]:
    """The CUDA devices that torch sees."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return tuple(torch.device("cuda", index) for index in range(count))


def candidates_of(asked: str | Sequence[str]) -> tuple[tuple[torch.device, ...], str]:
    """The devices that may be used, and why.

    Raises:
        InvalidLoadOptionError: There is no such device.
    """
    gpus = visible_gpus()
    if asked == "auto":
        if not gpus:
            return (torch.device("cpu"),), "torch sees no CUDA device"
        return gpus, "a CUDA device was found" if len(gpus) == 1 else f"{len(gpus)} were found"
    if asked == "cpu":
        return (torch.device("cpu"),), "asked for"
    chosen = []
    for name in (asked,) if isinstance(asked, str) else asked:
        index = int(name.partition(":")[2] or 0)
        if index >= len(gpus):
            raise InvalidLoadOptionError(
                f"device={name!r}, but torch sees {len(gpus)} CUDA devices.",
                parameter="device",
                value=name,
                hint='Use device="cpu", or install a torch build that supports your GPU.',
            )
        chosen.append(gpus[index])
    return tuple(chosen), "asked for"


def attention_of(
    options: LoadOptions,
    config: ModelConfig,
    devices: Sequence[torch.device],
    dtype: torch.dtype,
    kv_dtype: torch.dtype,
) -> tuple[str, str]:
    """One implementation for all devices, and why."""
    found = [
        choose_attention(
            options.attention,
            device=device,
            dtype=dtype,
            kv_dtype=kv_dtype,
            head_dim=config.head_dim,
        )
        for device in devices
    ]
    if len({name for name, _ in found}) > 1:
        return "gathered", "the devices do not all run the same kernels"
    return found[0]


def dtype_of(
    options: LoadOptions, config: ModelConfig, devices: Sequence[torch.device]
) -> tuple[torch.dtype, str]:
    """The type of weights and hidden states, and why."""
    if options.dtype != "auto":
        return _named(options.dtype), "asked for"
    if devices[0].type == "cpu":
        if config.num_parameters < _SMALL_MODEL:
            return torch.float32, "a small model on CPU, where float32 costs little"
        return torch.bfloat16, "half the memory of float32 on CPU, and float16 is slow there"
    if config.torch_dtype == "float16":
        return torch.float16, "the checkpoint's own"
    # Older ones emulate it, which torch calls supported.
    if any(torch.cuda.get_device_capability(device) < _BFLOAT16_FROM for device in devices):
        return torch.float16, "this GPU has no bfloat16"
    return torch.bfloat16, "the checkpoint's own" if config.torch_dtype == "bfloat16" else (
        "half the memory of float32"
    )


def layout_of(
    options: LoadOptions, config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> str:
    """In which form the projections' weights are held, and why."""
    if options.quantization is not None:
        stored = config.prequantized is not None
        return f"{options.quantization}, " + ("as it is stored" if stored else "asked for")
    if device.type != "cpu":
        return "plain, as CUDA's products read them"
    obstacle = packing_of(dtype)
    return "packed for oneDNN" if obstacle is None else f"plain: {obstacle}"


def kv_dtype_of(
    options: LoadOptions, device: torch.device, dtype: torch.dtype
) -> tuple[torch.dtype, str]:
    """The type of keys and values, and why."""
    if options.kv_cache_dtype not in (None, "auto"):
        return _named(str(options.kv_cache_dtype)), "asked for"
    if device.type == "cpu" and dtype == torch.bfloat16 and multiplies_bfloat16():
        return dtype, "the weights' own; answers read keys from a copy in columns"
    if device.type == "cpu":
        return torch.float32, "on CPU attention runs in float32 without converting the cache"
    return dtype, "the weights' own"


def graphs_of(options: LoadOptions, device: torch.device, attention: str) -> tuple[bool, str]:
    """Whether steps are captured and replayed, and why.

    Raises:
        InvalidLoadOptionError: They were asked for and cannot be.
    """
    obstacle = None
    if device.type != "cuda":
        obstacle = "steps are captured on CUDA only"
    elif attention == "gathered":
        obstacle = "the attention in use reads whole block tables"
    elif options.quantization == "int8":
        obstacle = "int8 products ask the host about outliers"
    if options.cuda_graphs and obstacle is not None:
        refuse_graphs(obstacle)
    if options.cuda_graphs is not None:
        return options.cuda_graphs, "asked for"
    return obstacle is None, obstacle or "one launch a step instead of hundreds"


def refuse_graphs(obstacle: str) -> NoReturn:
    """Say why steps are not captured.

    Raises:
        InvalidLoadOptionError: Always.
    """
    raise InvalidLoadOptionError(
        f"cuda_graphs=True does not work here: {obstacle}.",
        parameter="cuda_graphs",
        value=True,
        hint="Leave it at None.",
    )


def _named(name: str) -> torch.dtype:
    return {
        "float32": torch.float32,
        "float16": torch.float16,
        "bfloat16": torch.bfloat16,
        "int8": torch.int8,
    }[name]
