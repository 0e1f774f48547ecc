"""How much memory and time loading takes: random checkpoints of three sizes, one process per load.

``python -m benchmarks.loading [--form none|nf4|int8] [--device cpu|cuda] [--sizes 0.25,1,2]``
prints, for each size in GB of bf16 files, the largest shard, the bytes of the loaded weights, the
peak of the process's own memory above what it had before (pages mapped from files are not its
own), what of it is left (on CPU) when the engine has laid the weights out, the estimate, the time,
and the time a plain read of the files takes; imports are done before. Before either, the system is
asked to forget the files' pages, so both read the disk; they take turns, ``--runs`` times, and the
medians count. The bars: a
peak of at most 1.3 times the largest shard and the final size together, and 60 % of the disk's
rate. The 34B in NF4 is extrapolated: the work from the largest, the peak by the line through all
of them. ``--json FILE`` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from aquila2_runtime.checkpoint.config import parse_config, read_config
from aquila2_runtime.checkpoint.memory import estimate_memory
from aquila2_runtime.engine.decoder import Decoder
from aquila2_runtime.engine.faults import empty_device_cache
from benchmarks.limits import machine
from benchmarks.models import Shape, sharded

# Near the 34B's proportions (four times as wide inside, an eighth of the heads for keys).
SHAPES = {
    "0.25": Shape(hidden=768, layers=10, heads=6, inner=3_072, vocab=16_000),
    "1": Shape(hidden=1_536, layers=12, heads=12, inner=6_144, vocab=24_000),
    "2": Shape(hidden=2_048, layers=14, heads=16, inner=8_192, vocab=32_000),
}
TINY = Shape(hidden=64, layers=1, heads=1, inner=128, vocab=1_024)
SHARDS = 5
# Of the engine's table of rotations, which is no weight.
_POSITIONS = 128
PEAK = 1.3
RATE = 0.6
_34B = parse_config(
    {
        "model_type": "aquila", "hidden_size": 6144, "intermediate_size": 24576,
        "num_hidden_layers": 60, "num_attention_heads": 48, "num_key_value_heads": 8,
        "max_position_embeddings": 4096, "vocab_size": 100_008,
    }
)  # fmt: skip
_GB = 1e9


def measure(path: Path, form: str, device: str) -> dict[str, Any]:
    """Load a checkpoint in this process; what it took."""
    # Whatever is imported on the way, and whatever a first load sets up, is not the checkpoint's.
    with tempfile.TemporaryDirectory() as folder:
        tiny = sharded(TINY, Path(folder), 2)
        Decoder(_load(tiny, form, device), read_config(tiny), _POSITIONS)
    before, peak, done = _own_memory(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], _own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started, worked = time.perf_counter(), time.process_time()
    model = _load(path, form, device)
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    done.set()
    watcher.join()
    final = _held(model)
    quantization = None if form == "none" else form
    config = read_config(path)
    estimate = estimate_memory(config, dtype="bfloat16", quantization=quantization)
    used = None
    if device == "cpu":
        decoder = Decoder(model, config, _POSITIONS)
        del model
        empty_device_cache()
        used = _own_memory() - before
        del decoder
    return {
        "final": final,
        "estimate": estimate.weights,
        "peak": max(peak[0] - before, 0),
        "used": used,
        "seconds": seconds,
        "cpu": cpu,
    }


def _load(path: Path, form: str, device: str) -> Any:
    from aquila2_runtime.checkpoint.weights import load_weights

    return load_weights(
        path,
        read_config(path),
        dtype=torch.bfloat16,
        device=torch.device(device),
        quantization=None if form == "none" else form,
    )


def _held(model: torch.nn.Module) -> int:
    """Bytes of a model's weights, with the scales and codes of those that are packed."""
    held = 0
    for parameter in model.parameters():
        held += parameter.nbytes
        if (scales := getattr(parameter, "SCB", None)) is not None:
            held += scales.nbytes
        state = getattr(parameter, "quant_state", None)
        while state is not None:
            held += state.absmax.nbytes + state.code.nbytes
            state = state.state2
    return held


def _own_memory() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not say what memory is a process's own")


def read_plainly(path: Path) -> float:
    """Seconds that reading every weight file takes, in its present state of caching."""
    started = time.perf_counter()
    for file in sorted(path.glob("*.safetensors")):
        with file.open("rb", buffering=0) as source:
            while source.read(16 << 20):
                pass
    return time.perf_counter() - started


def forget(path: Path) -> None:
    """Ask the system to drop the files' pages, so that the disk is read."""
    for file in path.glob("*.safetensors"):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def row(name: str, folder: Path, form: str, device: str, runs: int = 1) -> dict[str, Any]:
    """Measure one size, each time in a process of its own; medians, and the shares of all runs."""
    path = folder / name
    if not (path / "model.safetensors.index.json").is_file():
        sharded(SHAPES[name], path, SHARDS)
    files = [file.stat().st_size for file in path.glob("*.safetensors")]
    command = [sys.executable, "-m", "benchmarks.loading", "--one", str(path)]
    found = []
    # A disk may be a cache's of the machine below: from here on it has the files, or never will.
    read_plainly(path)
    for _ in range(runs):
        forget(path)
        disk = read_plainly(path)
        forget(path)
        done = subprocess.run(
            [*command, "--form", form, "--device", device],
            capture_output=True,
            text=True,
            check=True,
        )
        found.append({"disk": disk, **json.loads(done.stdout.splitlines()[-1])})
    middle = {
        key: None if value is None else statistics.median(run[key] for run in found)
        for key, value in found[0].items()
    }
    shares = [run["disk"] / run["seconds"] for run in found]
    return {"size": sum(files), "shard": max(files), **middle, "shares": shares}


def main() -> int:
    """Measure and print; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--form", choices=["none", "nf4", "int8"], default="none")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", default="0.25,1,2")
    parser.add_argument("--folder", type=Path, help="where checkpoints are made, and kept")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None, help="where the figures are kept")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one is not None:
        print(json.dumps(measure(chosen.one, chosen.form, chosen.device)))
        return 0
    missed = False
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.sizes.split(","):
            kept = Path(folder) if chosen.folder is None else chosen.folder
            found = row(name, kept, chosen.form, chosen.device, chosen.runs)
            held = found["shard"] + (found["final"] if chosen.device == "cpu" else 0)
            missed |= found["peak"] > PEAK * held
            share = statistics.median(found["shares"])
            # Small files are read faster than a model is built, whatever it holds.
            missed |= found["size"] > _GB and share < RATE
            rows.append({**found, "bar": PEAK * held, "share": share})
            print(
                f"{found['size'] / _GB:6.2f} GB  shard {found['shard'] / _GB:5.2f}  "
                f"loaded {found['final'] / _GB:5.2f}  peak {found['peak'] / _GB:5.2f} "
                f"(bar {PEAK * held / _GB:5.2f})  used {(found['used'] or 0) / _GB:5.2f} "
                f"(estimate {found['estimate'] / _GB:5.2f})  {found['seconds']:6.2f} s "
                f"({found['cpu']:.2f} of a core), "
                f"plain read {found['disk']:5.2f} s ({share:.0%})",
                flush=True,
            )
    result = {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "runs": chosen.runs,
        "form": chosen.form,
        "device": chosen.device,
        "rows": rows,
    }
    if chosen.form == "nf4" and len(rows) > 1:
        result["34B"] = extrapolate(rows)
        told = "{core_minutes:.0f} min of a core, {final:.1f} GB loaded, peak {peak:.1f} GB"
        print("34B by extrapolation: " + told.format(**result["34B"]))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return int(missed)


def extrapolate(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The 34B from several sizes: its own weights from its shape, the rest from what was seen."""
    largest = rows[-1]
    final = estimate_memory(_34B, dtype="bfloat16", quantization="nf4").weights
    # transformers keeps the scales packed; the engine widens them when it joins projections.
    final *= sum(row["final"] for row in rows) / sum(row["estimate"] for row in rows)
    xs, ys = [row["final"] for row in rows], [row["peak"] for row in rows]
    mean_x, mean_y = statistics.fmean(xs), statistics.fmean(ys)
    slope = statistics.covariance(xs, ys) / statistics.variance(xs)
    seconds = largest["cpu"] / (largest["size"] / 2) * _34B.num_parameters
    return {
        "core_minutes": seconds / 60,
        "final": final / _GB,
        "peak": (mean_y + slope * (final - mean_x)) / _GB,
    }


if __name__ == "__main__":
    sys.exit(main())
