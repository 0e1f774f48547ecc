"""Which implementation of attention runs, and why. It computes nothing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Final

import torch

from aquila2_runtime.engine.attention import gathering
from aquila2_runtime.engine.attention.base import Attention
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.cpu import RunAttention
from aquila2_runtime.engine.attention.gathered import GatheredAttention
from aquila2_runtime.engine.attention.probe import launch_obstacle
from aquila2_runtime.engine.linear import multiplies_bfloat16
from aquila2_runtime.errors import InvalidLoadOptionError

# "paged" and "flash-attn" decode alike; prompts go through torch's own kernel or the package's.
_PAGED: Final = ("paged", "flash-attn")
_HALF: Final = (torch.float16, torch.bfloat16)
_FLOATS: Final = (torch.float32, *_HALF)


def choose_attention(
    asked: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    kv_dtype: torch.dtype,
    head_dim: int,
) -> tuple[str, str]:
    """Settle which implementation a model gets.

    Args:
        asked: "auto" or a name.
        device: Where the model runs.
        dtype: Of queries.
        kv_dtype: Of stored keys and values.
        head_dim: Numbers per head.

    Returns:
        A name for ``make_attention``, and the reason.

    Raises:
        InvalidLoadOptionError: The one that was asked for does not run here.
    """
    if asked == "gathered":
        return asked, "asked for"
    on_cpu, hindered = _in_place(device, dtype, kv_dtype)
    if asked == "runs":
        if hindered is None:
            return asked, "asked for"
        raise InvalidLoadOptionError(
            f'attention="runs" does not run here: {hindered}.',
            parameter="attention",
            value=asked,
            hint='Leave it at "auto".',
        )
    if asked == "auto" and on_cpu:
        in_place = "keys and values on CPU are read in place"
        return ("runs", in_place) if hindered is None else ("gathered", hindered)
    obstacle = _paged_obstacle(device, dtype, kv_dtype, head_dim)
    prompts = _flash_obstacle(device, dtype)
    if asked == "flash-attn" and obstacle is None:
        obstacle = prompts or _package_obstacle()
    if asked in _PAGED:
        if obstacle is None:
            return asked, "asked for"
        raise InvalidLoadOptionError(
            f"attention={asked!r} does not run here: {obstacle}.",
            parameter="attention",
            value=asked,
            hint='Leave it at "auto".',
        )
    if obstacle is not None:
        return "gathered", obstacle
    if prompts is not None:
        return "paged", f"blocks are read in place; prompts by torch's attention: {prompts}"
    return "paged", "blocks are read in place; prompts by torch's FlashAttention-2"


def _in_place(
    device: torch.device, dtype: torch.dtype, kv_dtype: torch.dtype
) -> tuple[bool, str | None]:
    """Whether keys and values are of a kind that CPUs read in place, and what hinders it.

    Those of bfloat16 are read from columns, which needs no sampled products.
    """
    columns = kv_dtype == dtype == torch.bfloat16 and multiplies_bfloat16()
    if device.type != "cpu" or not (kv_dtype == torch.float32 or columns):
        return False, (
            "it reads keys and values on CPU, float32 ones or, of a bfloat16 model on a processor "
            "that multiplies it, bfloat16 ones"
        )
    return True, None if columns else gathering.obstacle()


def make_attention(name: str, cache: PagedKVCache, dtype: torch.dtype) -> Attention:
    """Make an implementation that ``choose_attention`` named.

    Args:
        name: Its name.
        cache: The keys and values.
        dtype: Of queries.
    """
    if name == RunAttention.name:
        bf16 = dtype == torch.bfloat16 and multiplies_bfloat16()
        return RunAttention(cache, torch.bfloat16 if bf16 else torch.float32)
    if name not in _PAGED:
        return GatheredAttention(cache)
    # Imported here: Triton is not everywhere.
    from aquila2_runtime.engine.attention import varlen
    from aquila2_runtime.engine.attention.paged import PagedAttention

    device = cache.keys[0].device
    if name == "flash-attn":
        return PagedAttention(cache, varlen.flash_attn_varlen)
    plain = _flash_obstacle(device, dtype) is not None
    return PagedAttention(cache, varlen.sdpa_varlen if plain else varlen.flash_varlen)


def _paged_obstacle(
    device: torch.device, dtype: torch.dtype, kv_dtype: torch.dtype, head_dim: int
) -> str | None:
    """Why the Triton kernels cannot be used; None where they can."""
    if device.type != "cuda":
        return f"the Triton kernels are for CUDA, and this is {device.type}"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if not os.environ.get("CC") and not any(map(shutil.which, ("gcc", "clang"))):
        return "Triton finds no C compiler (install gcc, or name one in CC)"
    if not _has_python_headers():
        return "Triton finds no Python.h to build with (install python3-dev or python3-devel)"
    capability = torch.cuda.get_device_capability(device)
    if capability < (7, 5):
        return f"the Triton kernels need compute capability 7.5, and this is {capability}"
    if capability < (8, 0) and dtype != torch.float16:
        # bfloat16 is emulated there, and tiles of float32 are larger than shared memory.
        return f"at compute capability {capability} the Triton kernels are for float16"
    if head_dim & (head_dim - 1) or not 16 <= head_dim <= 256:
        return f"the Triton kernels need a head_dim of 16, 32, ..., 256, and this is {head_dim}"
    if head_dim > 128 and (capability < (8, 0) or dtype == torch.float32):
        return f"at a head_dim of {head_dim} in {dtype} tiles are larger than shared memory"
    if dtype not in _FLOATS or kv_dtype not in (torch.int8, dtype):
        return f"the Triton kernels do not mix {dtype} queries with {kv_dtype} keys"
    return launch_obstacle(device)


def _has_python_headers() -> bool:
    """Whether the headers are there that Triton compiles its launchers with."""
    scheme = sysconfig.get_default_scheme()
    if scheme == "posix_local":  # Debian's own, where only packages lie
        scheme = "posix_prefix"
    return (Path(sysconfig.get_paths(scheme=scheme)["include"]) / "Python.h").is_file()


def _package_obstacle() -> str | None:
    if importlib.util.find_spec("flash_attn") is None:
        return "the flash-attn package is not installed"
    return None


def _flash_obstacle(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why torch's FlashAttention-2 cannot be used for prompts; None where it can."""
    if dtype not in _HALF:
        return "FlashAttention-2 is for 16-bit types"
    if device.type != "cuda" or not torch.backends.cuda.is_flash_attention_available():
        return "this torch has no FlashAttention-2"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "FlashAttention-2 needs compute capability 8.0"
    return None
