"""What a benchmark found, printed and kept as JSON. It measures nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any


def tell(result: dict[str, Any], out: Path | None) -> None:
    """Print a result, and write it to a file if one is named."""
    text = json.dumps(result, indent=1, ensure_ascii=False, default=str)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", "utf-8")


def tried(ask: Callable[..., Any], *given: Any, **keywords: Any) -> str:
    """What came of a call, in short, and without addresses that differ from run to run."""
    try:
        told = repr(ask(*given, **keywords))
    except BaseException as error:
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return re.sub(r" at 0x[0-9a-f]+", "", told)[:300]
