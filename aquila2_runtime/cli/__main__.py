"""``python -m aquila2_runtime.cli`` is ``aquila2``."""

from __future__ import annotations

from aquila2_runtime.cli import main

if __name__ == "__main__":
    main()
