"""What an exception out of a step means: the request's fault, a lack of memory, or the end."""

from __future__ import annotations

import contextlib
import gc
import traceback
from typing import TYPE_CHECKING

import torch

from aquila2_runtime.engine.heap import give_freed_memory_back
from aquila2_runtime.errors import Aquila2Error, GenerationError, OutOfMemoryError

if TYPE_CHECKING:
    from aquila2_runtime.engine.scheduler import Scheduled

# After a device-side assert or a lost device every later CUDA call fails too.
_FATAL_PHRASES = ("cuda error", "device-side assert", "cublas_status_execution_failed")
_MEMORY_PHRASES = ("out of memory", "can't allocate memory", "not enough memory")


def is_fatal(error: BaseException) -> bool:
    """Whether the device is lost, so that no later step can succeed, or the thread is to end."""
    if not isinstance(error, Exception):
        # A panic in Rust is none either, and is of what it was asked, as any other error is.
        return type(error).__module__ != "pyo3_runtime"
    text = str(error).lower()
    if not isinstance(error, RuntimeError) or is_memory(error):
        return False
    return any(phrase in text for phrase in _FATAL_PHRASES)


def is_lost(device: torch.device) -> bool:
    """Whether a device answers no more. What a call on it raised does not tell.

    A step that could not be captured says "CUDA error" as well, and the device goes on.
    """
    if device.type != "cuda":
        return False
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def remedy_of(death: BaseException) -> str:
    """What helps once an engine has failed for good."""
    if isinstance(death, Exception) and is_fatal(death):
        return "The device is lost to this process: start the program again."
    return "Close the runtime and load the checkpoint again."


def failure_of(error: BaseException, item: Scheduled) -> Aquila2Error:
    """Turn an exception of one request's step into the error its reader gets.

    Args:
        error: What was raised.
        item: The chunk that was computed, alone.
    """
    if isinstance(error, Aquila2Error):
        return error
    if is_memory(error):
        empty_device_cache()
        failure: Aquila2Error = OutOfMemoryError(
            f"The device ran out of memory while it computed {item.rows} tokens of a request of "
            f"{len(item.request.token_ids)}{_free_memory()}: {error}",
            hint="Shorten the prompt, or load with a smaller kv_cache_memory, max_num_seqs or "
            'max_model_len, or with quantization="nf4".',
        )
    else:
        failure = GenerationError(f"This request failed: {type(error).__name__}: {error}")
    # Without its traceback, whose frames would keep the step's tensors alive.
    failure.__cause__ = error.with_traceback(None)
    return failure


def _free_memory() -> str:
    """How full the device is, where it can be asked."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return ""
    free, total = torch.cuda.mem_get_info()
    return f" ({free / 2**30:.2f} of {total / 2**30:.2f} GiB are free)"


def empty_device_cache() -> None:
    """Give freed memory back: what the C library keeps, and what torch keeps of a device."""
    give_freed_memory_back()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        # After a device-side assert this fails like every other call: there is nothing to be had.
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()


def let_go(error: BaseException) -> None:
    """Free what the frames of an exception hold, and give it back; its lines stay.

    A model that could not be built to its end would otherwise stay on the device for as long as
    the caller, or a notebook, keeps the exception.
    """
    seen: set[int] = set()
    held: BaseException | None = error
    while held is not None and id(held) not in seen:
        seen.add(id(held))
        traceback.clear_frames(held.__traceback__)
        held = held.__cause__ or held.__context__
    gc.collect()
    empty_device_cache()


def is_memory(error: BaseException) -> bool:
    """Whether memory was wanting."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return any(phrase in text for phrase in _MEMORY_PHRASES)
