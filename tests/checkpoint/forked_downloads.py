"""Downloads from ModelScope in processes that may be killed; its client is imported once for all.

Run as a script. For each cache directory on standard input it forks: the process's id is the first
line of the answer, its exit status and the checkpoint's directory (if any) are the second.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from modelscope import snapshot_download  # noqa: F401  (a second long; the forks have it)
from modelscope.hub.api import HubApi  # noqa: F401

from aquila2_runtime.checkpoint.resolve import resolve


def main() -> None:
    """Serve until the input ends."""
    for line in sys.stdin:
        cache = Path(line.strip())
        answer = cache.with_suffix(".answer")
        answer.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                found = resolve("someone/model", cache_dir=cache, source="modelscope")
                answer.write_text(str(found.path))
                status = 0
            finally:
                os._exit(status)
        print(pid, flush=True)
        _, ended = os.waitpid(pid, 0)
        told = answer.read_text() if answer.exists() else ""
        print(os.waitstatus_to_exitcode(ended), told, flush=True)


if __name__ == "__main__":
    main()
