"""Whether Triton builds and launches kernels on a device: one is tried, and no other."""

from __future__ import annotations

import functools

import torch

from aquila2_runtime.engine.faults import is_memory


def launch_obstacle(device: torch.device) -> str | None:
    """Why no kernel can be built and launched on a CUDA device; None where one can.

    Triton compiles with what it finds on the machine, into a directory that it must be able to
    write, and each of its ways to fail is an exception of another kind. A device that is full
    says nothing of that, now or later.
    """
    try:
        return _tried(device)
    except MemoryError:
        return None


@functools.cache
def _tried(device: torch.device) -> str | None:
    try:
        # Imported here: Triton is not everywhere.
        from aquila2_runtime.engine.attention.probe_kernel import write_one

        with torch.cuda.device(device):
            found = int(write_one(torch.zeros(1, dtype=torch.int32, device=device)))
    except Exception as error:
        if is_memory(error):
            raise MemoryError from error  # which is not kept
        return f"Triton cannot run a kernel ({type(error).__name__}: {error})"
    return None if found == 1 else f"a kernel of Triton wrote {found} where it should have 1"
