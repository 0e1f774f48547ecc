"""Heap: how long the C library keeps memory that a step has freed. It allocates nothing itself.

A step makes and frees temporaries of some megabytes, dozens of times per layer. glibc by default
returns such memory to the system at once and asks for it again with the next temporary, page by
page: that costs more than the arithmetic on it (an addition over 1.5 MB: ten times as much).
"""

from __future__ import annotations

import ctypes
import logging
import sys
from typing import Final

_log = logging.getLogger(__name__)

# mallopt(3): what is freed at the end of the heap is kept up to the first; what is larger than the
# second (glibc's maximum) comes from the system and goes back to it.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_KEPT: Final = 256 * 2**20
_MAPPED: Final = 32 * 2**20


def keep_freed_memory() -> None:
    """Have the process keep up to 256 MiB of freed memory; does nothing without glibc."""
    library = _glibc()
    if library is not None and not (
        library.mallopt(_M_MMAP_THRESHOLD, _MAPPED) and library.mallopt(_M_TRIM_THRESHOLD, _KEPT)
    ):
        _log.debug("mallopt refused; steps will ask the system for memory again and again")


def give_freed_memory_back() -> None:
    """Return what is kept to the system; does nothing without glibc."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    wanted = ("mallopt", "malloc_trim", "gnu_get_libc_version")  # the last is glibc's alone
    return library if all(hasattr(library, name) for name in wanted) else None
