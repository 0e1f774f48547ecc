"""The same work through several engines, taking turns in one run; what counts are the ratios.

Every engine is loaded once, in a process of its own, and is stopped while another is measured: some
keep a core busy while they wait for work. Every round gives all of them the same new prompts.
``--help`` lists the options.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.limits import limits, machine
from benchmarks.models import SHAPES, as_llama, checkpoint
from benchmarks.plot import bars
from benchmarks.workloads import Workload, figure

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ("single", "x8", "x32", "prefill", "second")
ENGINES = ("ours", "ours-nf4", "generate", "cb", "vllm")


class Worker:
    """An engine's process.

    Args:
        engine: One of ``ENGINES``.
        path: The checkpoint.
        dtype: Type of the weights.
        python: Interpreter that has the engine.
    """

    def __init__(self, engine: str, path: Path, dtype: str, python: str) -> None:
        name, _, quantization = engine.partition("-")
        command = [python, "-m", "benchmarks.worker", name, str(path), quantization or dtype]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self._answer()
        self._signal(signal.SIGSTOP)

    def measure(self, workloads: list[Workload]) -> list[dict[str, Any]]:
        """Run workloads one after the other."""
        found = []
        self._signal(signal.SIGCONT)
        for workload in workloads:
            asked = {"prompts": workload.prompts, "new_tokens": workload.new_tokens}
            if self._process.stdin is None:
                raise RuntimeError("the worker has no input")
            print(json.dumps(asked), file=self._process.stdin, flush=True)
            found.append(self._answer())
        self._signal(signal.SIGSTOP)
        return found

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self._signal(signal.SIGCONT)
            self._process.communicate(timeout=60)

    def _signal(self, number: signal.Signals) -> None:
        """Signal the process and those it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise RuntimeError(f"the worker ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return all that was found."""
    path = checkpoint(options.model, options.directory)
    llama = as_llama(path, options.directory)
    vocab = SHAPES[options.model].vocab
    seconds: dict[str, dict[str, list[float]]] = {}
    with _workers(options, path, llama) as workers:
        for number in range(options.rounds + 1):
            for name in options.figures:
                work = figure(name, vocab, 1_000 + number, scale=options.scale)
                for engine, worker in workers.items():
                    if name == "second" and engine in {"generate", "cb"}:
                        continue  # the first remembers nothing, the second is started per call
                    answers = worker.measure(work)
                    if number:  # the round before the first warms up
                        cell = seconds.setdefault(name, {}).setdefault(engine, [])
                        cell.append(_value(name, answers))
    return {
        "model": options.model,
        "dtype": options.dtype,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "limits": limits(),
        "rounds": options.rounds,
        "unit": {"single": "tokens/s", "x8": "tokens/s", "x32": "tokens/s"}
        | {"prefill": "s", "second": "second / first time to first token"},
        "figures": {
            name: {engine: round(statistics.median(values), 4) for engine, values in cells.items()}
            for name, cells in seconds.items()
        },
        "all": seconds,
        "ratios": _ratios(seconds),
    }


def _value(name: str, answers: list[dict[str, Any]]) -> float:
    last = answers[-1]
    if name == "prefill":
        return float(last["seconds"])
    if name == "second":
        return float(last["seconds"] / answers[0]["seconds"])
    return float(last["tokens"] / last["seconds"])


def _ratios(seconds: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """How many times as fast as the others this runtime is; medians of ratios within a round."""
    found: dict[str, dict[str, float]] = {}
    for name, cells in seconds.items():
        if name == "second":
            continue
        for mine in (engine for engine in cells if engine.startswith("ours")):
            for other, values in cells.items():
                if other == mine:
                    continue
                pairs = zip(cells[mine], values, strict=True)
                ratio = statistics.median(b / a if name == "prefill" else a / b for a, b in pairs)
                found.setdefault(name, {})[f"{mine} / {other}"] = round(ratio, 3)
    return found


@contextlib.contextmanager
def _workers(options: argparse.Namespace, path: Path, llama: Path) -> Iterator[dict[str, Worker]]:
    workers: dict[str, Worker] = {}
    try:
        for engine in options.engines:
            if engine == "vllm" and not options.vllm_python:
                continue
            python = options.vllm_python if engine == "vllm" else sys.executable
            where = path if engine.startswith("ours") else llama
            workers[engine] = Worker(engine, where, options.dtype, python)
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def main() -> None:
    """Measure as the command line says, write a file and plots, print the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare")
    parser.add_argument("--model", choices=sorted(SHAPES), default="25M")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--figures", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=int, default=1, help="divides the tokens of 'single'")
    parser.add_argument("--vllm-python", help="an interpreter that has vLLM")
    parser.add_argument("--directory", type=Path, default=ROOT / ".benchmarks")
    parser.add_argument("--out", type=Path, help="a JSON file; plots go beside it")
    options = parser.parse_args()
    found = compare(options)
    text = json.dumps(found, indent=1)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n", "utf-8")
        for name, cells in found["figures"].items():
            title = f"{name}, {options.model} {options.dtype} ({found['unit'][name]})"
            options.out.with_name(f"{options.out.stem}-{name}.svg").write_text(
                bars(title, cells), "utf-8"
            )
    print(json.dumps({key: found[key] for key in ("figures", "ratios")}, indent=1))


if __name__ == "__main__":
    main()
