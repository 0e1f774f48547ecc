"""Heap: freed memory is kept between steps, and given back on demand."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A process of its own: the setting holds for the whole process, and other threads' faults count.
SCRIPT = """
import resource, sys, torch
from aquila2_runtime.engine.heap import give_freed_memory_back, keep_freed_memory
torch.set_num_threads(1)
def resident():
    return int(open("/proc/self/statm").read().split()[1])
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        kept = [torch.ones(400_000) for _ in range(8)]
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
keep_freed_memory()
faults()
later = faults()
held = resident()
give_freed_memory_back()
print(later, held - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_temporaries_use_the_same_pages_again_until_they_are_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=100
    )
    faults, returned = map(int, done.stdout.split())
    pages = 100 * 8 * 400_000 * 4 // 4_096
    assert faults < pages / 20, "the pages of freed temporaries were asked for again"
    assert returned > 8 * 400_000 * 4 // 4_096 / 2
