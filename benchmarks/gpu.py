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
import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from aquila2_runtime.checkpoint.config import ModelConfig
from aquila2_runtime.checkpoint.free_memory import available_memory
from aquila2_runtime.engine.faults import empty_device_cache, is_fatal
from aquila2_runtime.load_options import LoadOptions
from aquila2_runtime.placement import choose, estimate
from benchmarks import gpu_agreement
from benchmarks.gpu_bars import BARS, Bars, Table
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


class TooSmall(Exception):
    """The card does not hold what is to be measured."""


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
    options = LoadOptions(
        model="random", device=str(device), quantization="nf4" if packed else None,
        max_num_seqs=scale.batch, dtype="auto" if device.type == "cuda" else "float32",
    )  # fmt: skip
    # What was measured with is no part of the model's memory.
    empty_device_cache()
    dtype = _dtype_that_fits(options, config, device, scale)
    used_before = _used(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    made = time.perf_counter()
    model = (random_nf4_model if packed else random_model)(config, device, dtype)
    print(f"model made in {time.perf_counter() - made:.1f} s", flush=True)
    theirs = _generate_rate(model, config, scale, device)
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


def _dtype_that_fits(
    options: LoadOptions, config: ModelConfig, device: torch.device, scale: Scale
) -> torch.dtype:
    """The type the runtime would choose.

    Raises:
        TooSmall: One request of full length does not fit.
    """
    placement = choose(options, config)
    needed = estimate(options, config, placement, scale.room)
    free = available_memory(str(device))
    if needed.total > free:
        message = f"needs {needed.total / 2**30:.1f} GiB, {free / 2**30:.1f} are free"
        raise TooSmall(message)
    return placement.dtype


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
        off = abs(bench.estimate.used - peak) / peak
        table.add(
            "memory estimate off by", off, 0.05, below=True, estimate=bench.estimate.used,
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


def _begin_again(parts: Sequence[str], chosen: argparse.Namespace) -> None:
    """Go on in a fresh process in this one's place, whose memory on the card is free by then."""
    command = ["-m", "benchmarks.gpu", "--failed", "--results", str(chosen.results)]
    command += ["--tiny"] * chosen.tiny
    for part in parts:
        command += ["--part", part]
    os.execv(sys.executable, [sys.executable, *command])


def main(arguments: list[str] | None = None) -> int:
    """Run the parts that are asked for, whatever becomes of the others.

    Returns:
        1 where a part failed; 0 even where a bar is not met, which the table says.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", action="append", choices=(*PARTS, "all"), help="may repeat")
    parser.add_argument("--tiny", action="store_true", help="small sizes, on CPU")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--failed", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if not chosen.tiny and not torch.cuda.is_available():
        parser.error("no CUDA device was found; --tiny runs the same code in small on CPU")
    device = torch.device("cpu" if chosen.tiny else "cuda:0")
    card = "cpu-tiny" if chosen.tiny else torch.cuda.get_device_name(device)
    scale = TINY if chosen.tiny else FULL
    failed = chosen.failed
    parts = chosen.part if chosen.part and "all" not in chosen.part else PARTS
    for at, part in enumerate(parts):
        if part.endswith("nf4") and importlib.util.find_spec("bitsandbytes") is None:
            print(f"== {part}: not run, bitsandbytes is not installed", flush=True)
            continue
        print(f"== {part} on {card}", flush=True)
        started = time.perf_counter()
        try:
            if part == "agreement":
                found = gpu_agreement.measure(device, tiny=chosen.tiny)
            else:
                found = measure_part(part, device, scale, tiny=chosen.tiny)
        except TooSmall as problem:
            print(f"== {part}: not run, {problem}", flush=True)
            continue
        except Exception as problem:
            # The card's time is dear: the other parts are measured all the same.
            traceback.print_exc()
            print(f"== {part}: FAILED", flush=True)
            failed = True
            if is_fatal(problem) and parts[at + 1 :]:
                _begin_again(parts[at + 1 :], chosen)
            continue
        finally:
            # The frames of what failed hold its weights until then.
            gc.collect()
            empty_device_cache()
        found |= {"card": card, "torch": torch.__version__, "python": platform.python_version(),
                  "seconds": time.perf_counter() - started}  # fmt: skip
        chosen.results.mkdir(parents=True, exist_ok=True)
        target = chosen.results / f"gpu-{part}-{card.replace(' ', '-').lower()}.json"
        target.write_text(json.dumps(found, indent=1), "utf-8")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
