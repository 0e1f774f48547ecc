"""Limits of this machine: how fast memory is read and matrices are multiplied, measured now."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def limits(rounds: int = 5) -> dict[str, float]:
    """Medians of a few rounds.

    Returns:
        ``read_gb_s``: bytes summed up per second; ``copy_gb_s``: bytes read and written per second;
        ``gemm_bf16_gflop_s`` and ``gemm_fp32_gflop_s``.
    """
    big = torch.ones(64 * 2**20)  # 256 MiB: larger than any cache
    other = torch.empty_like(big)
    size = big.numel() * 4

    def rate(work: Callable[[], Any], amount: float) -> float:
        work()
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        return round(amount / statistics.median(times) / 1e9, 1)

    found = {
        "read_gb_s": rate(big.sum, size),
        "copy_gb_s": rate(lambda: other.copy_(big), 2 * size),
    }
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        left, right = torch.ones(1_024, 2_048, dtype=dtype), torch.ones(2_048, 2_048, dtype=dtype)
        flops = 2 * 1_024 * 2_048 * 2_048
        found[f"gemm_{name}_gflop_s"] = rate(lambda a=left, b=right: a @ b, flops)  # type: ignore[misc]
    return found


def machine() -> dict[str, Any]:
    """What ran the measurement."""
    names = ("torch", "transformers", "bitsandbytes", "aquila2")
    return {
        "processor": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: found for name in names if (found := _version(name)) is not None},
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    print(json.dumps({**machine(), **limits()}, indent=1))
