"""One command that measures every figure claimed for a GPU, beside its bar.

    python -m benchmarks.gpu --part 7b-bf16          # one part, under eight minutes each
    python -m benchmarks.gpu --part all
    python -m benchmarks.gpu --part all --tiny       # the same code in small, on any machine

Rates are compared with what the card's own memory and matrix units allow, measured in the same run.
Results go to benchmarks/results/ as JSON, a table to the terminal.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import importlib.util
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

from aquila2_runtime.checkpoint.config import ModelConfig
from aquila2_runtime.load_options import LoadOptions
from benchmarks import gpu_agreement
from benchmarks.gpu_measure import Waiting, decode_rate, first_token, limits, random_ids, stall
from benchmarks.gpu_models import (
    Bench,
    random_model,
    random_nf4_model,
    set_cascade,
    shape,
    start_engine,
)

RESULTS = Path(__file__).resolve().parent / "results"
PARTS = ("agreement", "7b-bf16", "7b-nf4", "34b-bf16", "34b-nf4")


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


@dataclasses.dataclass(frozen=True)
class Scale:
    """Sizes of the cells."""

    short: int
    long: int
    batch: int
    seconds: float
    new: int

    @property
    def room(self) -> int:
        """Tokens of the longest request."""
        return self.long + self.new


FULL = Scale(short=1_024, long=15_872, batch=32, seconds=2.0, new=1_024)
TINY = Scale(short=32, long=300, batch=4, seconds=0.2, new=64)


def step_bytes(config: ModelConfig, packed: bool) -> float:
    """Bytes of weights that a decoding step reads at least."""
    per_weight = 0.5625 if packed else 2.0
    return config.linear_parameters * per_weight + config.vocab_size * config.hidden_size * 2.0


def kv_bytes(config: ModelConfig) -> int:
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * 2


def roofline(config: ModelConfig, packed: bool, rows: int, context: float, speed: float) -> float:
    """Tokens per second if a step did nothing but read weights, keys and values."""
    read = step_bytes(config, packed) + rows * context * kv_bytes(config)
    return rows * speed * 1e9 / read


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


def measure_part(part: str, device: torch.device, scale: Scale, *, tiny: bool) -> dict[str, Any]:
    """Everything of one model in one number type."""
    size, _, kind = part.partition("-")
    packed = kind == "nf4"
    # In small on CPU no bar means anything.
    table, bars = Table(judge=not tiny), BARS[part]
    found: dict[str, Any] = {"part": part, "limits": limits(device, tiny=tiny)}
    speed = found["limits"]["copy_gb_per_s"]
    print(json.dumps(found["limits"]), flush=True)
    config = shape("tiny" if tiny else size, scale.room)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    used_before = _used(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    made = time.perf_counter()
    model = (random_nf4_model if packed else random_model)(config, device, dtype)
    print(f"model made in {time.perf_counter() - made:.1f} s", flush=True)
    theirs = _generate_rate(model, config, scale, device)
    options = LoadOptions(
        model="random", device=str(device), quantization="nf4" if packed else None,
        max_num_seqs=scale.batch, dtype="auto" if device.type == "cuda" else "float32",
    )  # fmt: skip
    waiting = Waiting()
    bench = start_engine(
        model, config, options, scale.room, most_tokens=None if device.type == "cuda" else 4_000
    )
    del model
    gc.collect()
    print(f"engine ready after {time.perf_counter() - made:.1f} s", flush=True)
    try:
        _cells(bench, table, bars, scale, packed, speed, theirs, waiting)
        _memory(bench, table, device, used_before)
    finally:
        bench.engine.close()
    found |= {"cells": table.cells, "attention": bench.placement.attention,
              "reasons": bench.placement.reasons}  # fmt: skip
    return found


def _cells(
    bench: Bench,
    table: Table,
    bars: Bars,
    scale: Scale,
    packed: bool,
    speed: float,
    theirs: float,
    waiting: Waiting,
) -> None:
    engine, config = bench.engine, bench.config

    def prompt(count: int, seed: int) -> list[int]:
        return random_ids(count, config.vocab_size, seed)

    def decode(name: str, prompts: list[list[int]], bar: float | None, *, greedy: bool = True):  # type: ignore[no-untyped-def]
        got = decode_rate(engine, prompts, scale.new, scale.seconds, waiting, greedy=greedy)
        best = roofline(config, packed, len(prompts), got["mean_context"], speed)
        table.add(name, got["tokens_per_s"] / best, bar, **got, roofline=best)
        return got["tokens_per_s"]

    first_token(engine, prompt(scale.short, 1))  # kernels of prompts are set up
    one = decode("decode 1 x short", [prompt(scale.short, 2)], bars.short)
    table.add("decode 1 x short / generate", one / theirs, bars.generate, generate=theirs)
    decode("decode 1 x short, top_p", [prompt(scale.short, 3)], None, greedy=False)
    decode("decode 1 x long", [prompt(scale.long, 4)], bars.long)
    many = [prompt(scale.short, 10 + row) for row in range(scale.batch)]
    decode("decode batch x short", many, bars.batch)
    cold = [first_token(engine, prompt(scale.long, 100 + turn)) for turn in range(3)]
    table.add("prefill long, s", sorted(cold)[1], bars.prefill_seconds, below=True)
    document = prompt(scale.long, 200)
    first_token(engine, document)
    warm = first_token(engine, [*document[: -(scale.short // 4)], *prompt(scale.short // 4, 201)])
    table.add("first token warm / cold", warm / sorted(cold)[1], 1 / 15, below=True, warm=warm)
    tail = scale.short // 4
    shared = [[*document[:-tail], *prompt(min(16, tail), 300 + row)] for row in range(scale.batch)]
    if scale.long + scale.batch * scale.new < bench.tokens:
        for cascade in (False, True):
            set_cascade(bench.runner, cascade)
            got = decode_rate(engine, shared, scale.new, scale.seconds, waiting)
            kept = "once" if cascade else "each"
            bar = bars.shared if cascade else None
            base = table.cells.get("document read each", {}).get("tokens_per_s")
            ratio = got["tokens_per_s"] / base if base else 1.0
            table.add(f"document read {kept}", ratio, bar, **got)
    streams = [prompt(scale.short, 400 + row) for row in range(4)]
    gaps = stall(engine, streams, prompt(scale.long, 500), scale.new)
    table.add("longest gap beside a prompt, ms", gaps["longest_gap_ms"], None, **gaps)


def _memory(bench: Bench, table: Table, device: torch.device, used_before: int) -> None:
    if device.type == "cuda":
        peak = torch.cuda.max_memory_reserved(device)
        off = abs(bench.estimate.total - peak) / peak
        table.add(
            "memory estimate off by", off, 0.05, below=True, estimate=bench.estimate.total,
            peak_reserved=peak, device_used=_used(device) - used_before,
            kv_tokens=bench.tokens,
        )  # fmt: skip
    print(bench.estimate.table(), flush=True)


def _used(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return total - free


def _generate_rate(model: Any, config: ModelConfig, scale: Scale, device: torch.device) -> float:
    """Tokens per second of transformers' generate on the same weights, after the prompt."""
    ids = torch.tensor([random_ids(scale.short, config.vocab_size, 0)], device=device)
    new = min(scale.new, 128)
    seconds = []
    for count in (new, 1, new, 1):
        _synchronize(device)
        started = time.perf_counter()
        model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count,
            do_sample=False, pad_token_id=0,
        )  # fmt: skip
        _synchronize(device)
        seconds.append(time.perf_counter() - started)
    return (new - 1) / max(seconds[2] - seconds[3], 1e-9)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(arguments: list[str] | None = None) -> int:
    """Run the parts that are asked for; 0 even where a bar is not met, which the table says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--tiny", action="store_true", help="small sizes, on CPU")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    if not chosen.tiny and not torch.cuda.is_available():
        parser.error("no CUDA device was found; --tiny runs the same code in small on CPU")
    device = torch.device("cpu" if chosen.tiny else "cuda:0")
    card = "cpu-tiny" if chosen.tiny else torch.cuda.get_device_name(device)
    scale = TINY if chosen.tiny else FULL
    for part in PARTS if chosen.part == "all" else (chosen.part,):
        if part.endswith("nf4") and importlib.util.find_spec("bitsandbytes") is None:
            print(f"== {part}: not run, bitsandbytes is not installed", flush=True)
            continue
        print(f"== {part} on {card}", flush=True)
        started = time.perf_counter()
        if part == "agreement":
            found = gpu_agreement.measure(device, tiny=chosen.tiny)
        else:
            found = measure_part(part, device, scale, tiny=chosen.tiny)
        found |= {"card": card, "torch": torch.__version__, "python": platform.python_version(),
                  "seconds": time.perf_counter() - started}  # fmt: skip
        chosen.results.mkdir(parents=True, exist_ok=True)
        target = chosen.results / f"gpu-{part}-{card.replace(' ', '-').lower()}.json"
        target.write_text(json.dumps(found, indent=1), "utf-8")
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
