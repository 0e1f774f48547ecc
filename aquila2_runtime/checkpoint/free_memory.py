"""How much memory a device or this machine has free. It allocates nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# What is returned where the system does not say how much is free.
UNKNOWN: Final = 2**62


def available_memory(device: str) -> int:
    """Bytes that can still be allocated on a device ("cpu", "cuda", "cuda:1").

    On CPU the smaller of what the system calls available and what the process's control groups
    leave; where the system does not say, ``UNKNOWN``.
    """
    if device.partition(":")[0] == "cuda":
        import torch

        try:
            free, _ = torch.cuda.mem_get_info(device)
        except RuntimeError as error:
            # Asking takes some hundred MB of the device itself.
            if "out of memory" in str(error).lower():
                return 0
            raise
        return int(free)
    return available_cpu_memory(Path("/"))


def available_cpu_memory(root: Path) -> int:
    """Bytes of main memory that can still be allocated.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.
    """
    return min(_system_available(root), _group_available(root))


def _system_available(root: Path) -> int:
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return UNKNOWN


def _group_available(root: Path) -> int:
    """What the control groups leave, of version 2 or 1; a limit of any ancestor counts."""
    left = UNKNOWN
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = base / path.strip("/")
        while True:
            left = min(left, _left_in(folder, *names))
            # Inside a container the path is the host's, and only the mount itself is there.
            if folder in (base, folder.parent):
                break
            folder = folder.parent
    return left


def _left_in(folder: Path, limit_name: str, used_name: str) -> int:
    limit, used = _read(folder / limit_name).strip(), _read(folder / used_name).strip()
    if not limit.isdigit() or not used.isdigit():
        return UNKNOWN
    # Cached file pages count as used, but are given up under pressure.
    reclaimable = 0
    for line in _read(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdigit():
            reclaimable = max(reclaimable, int(value))
    return max(int(limit) - int(used) + reclaimable, 0)


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
