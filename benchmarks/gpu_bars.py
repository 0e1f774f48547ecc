"""What the GPU benchmark's cells are held to, and their table. It measures nothing."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Bars:
    """What a part is held to; fractions of the roofline where not said otherwise."""

    short: float
    long: float
    batch: float
    shared: float  # times the tokens of reading the document once per request
    prefill_seconds: float
    generate: float  # times transformers' generate


# NF4 cells are held to bf16 ones by hand: their fractions of a roofline say little.
BARS = {
    "7b-bf16": Bars(0.80, 0.70, 0.65, 5.0, 0.65, 2.0),
    "7b-nf4": Bars(0.44, 0.55, 0.43, 5.0, 0.70, 2.0),
    "34b-bf16": Bars(0.80, 0.75, 0.65, 1.8, 2.9, 1.2),
    "34b-nf4": Bars(0.50, 0.46, 0.23, 2.5, 3.1, 2.0),
}


class Table:
    """Cells with their bars."""

    def __init__(self, *, judge: bool) -> None:
        self._judge = judge
        self.cells: dict[str, dict[str, Any]] = {}

    def add(
        self, name: str, value: float, bar: float | None, *, below: bool = False, **more: Any
    ) -> None:
        """Note a cell and print it."""
        bar = bar if self._judge else None
        met = None if bar is None else (value <= bar if below else value >= bar)
        self.cells[name] = {"value": value, "bar": bar, "met": met, **more}
        sign = "" if bar is None else f"  bar {'<=' if below else '>='} {bar:g}  "
        verdict = {None: "", True: "met", False: "NOT MET"}[met]
        rest = "  ".join(
            f"{key}={entry:.4g}" if isinstance(entry, float) else f"{key}={entry}"
            for key, entry in more.items()
        )
        print(f"{name:34} {value:10.4g}{sign}{verdict}  {rest}", flush=True)
