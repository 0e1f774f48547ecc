"""Measurements on a running engine: rates, first tokens, gaps. They know no model and no bars."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from aquila2_runtime.engine import readback
from aquila2_runtime.engine.base import EngineRequest
from aquila2_runtime.engine.handle import RequestHandle
from aquila2_runtime.engine.torch_engine import TorchEngine
from aquila2_runtime.sampling import SamplingParams


class Waiting:
    """Adds up how long the host waits for ids: while it does, nothing of its own is in the way."""

    def __init__(self) -> None:
        self.seconds = 0.0
        plain = readback.Fetch.ids

        def ids(fetch: readback.Fetch) -> list[int]:
            started = time.perf_counter()
            found = plain(fetch)
            self.seconds += time.perf_counter() - started
            return found

        readback.Fetch.ids = ids  # type: ignore[method-assign]


def random_ids(count: int, vocab: int, seed: int) -> list[int]:
    """Ids of a prompt nobody has seen."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, vocab - 16, (count,), generator=generator).tolist()


def submit(
    engine: TorchEngine, ids: Sequence[int], new: int, *, greedy: bool = True, seed: int = 0
) -> RequestHandle:
    """A request that goes on for ``new`` tokens."""
    params = SamplingParams(temperature=0.0) if greedy else SamplingParams(top_p=0.9)
    return engine.submit(
        EngineRequest(
            prompt_token_ids=tuple(ids), params=params, max_tokens=new, seed=seed,
            stop_ids=frozenset(), eos_token_id=-1,
        )
    )  # fmt: skip


def drain(handles: Sequence[RequestHandle]) -> None:
    """Abort requests and wait until they have ended."""
    for handle in handles:
        handle.abort()
    for handle in handles:
        while handle.read().finished is None:
            pass


def _begun(handle: RequestHandle) -> bool:
    """Wait for the first token; whether it was the last."""
    while True:
        chunk = handle.read()
        if chunk.token_ids:
            return chunk.finished is not None


def _warm(engine: TorchEngine, tokens: int, seconds: float) -> None:
    """Let the first steps pass, which are not like the others: an eighth, or some time of them."""
    first, until = engine.stats().tokens_computed, time.perf_counter() + seconds
    while time.perf_counter() < until and engine.stats().tokens_computed - first < tokens:
        time.sleep(0.001)


def decode_rate(
    engine: TorchEngine,
    prompts: Sequence[Sequence[int]],
    new: int,
    seconds: float,
    waiting: Waiting,
    *,
    greedy: bool = True,
) -> dict[str, float]:
    """Tokens per second once all prompts are read, for some seconds or until one ends."""
    handles = [
        submit(engine, ids, new, greedy=greedy, seed=seed) for seed, ids in enumerate(prompts)
    ]
    if any([_begun(handle) for handle in handles]):
        msg = "an answer ended with its first token"
        raise RuntimeError(msg)
    _warm(engine, len(handles) * max(new // 8, 1), min(seconds, 0.3))
    before, started, waited = engine.stats(), time.perf_counter(), waiting.seconds
    until, ended = started + seconds, False
    while time.perf_counter() < until and not ended:
        time.sleep(0.002)
        ended = engine.stats().running < len(handles)
    after, lasted = engine.stats(), time.perf_counter() - started
    waited = waiting.seconds - waited
    steps = max(after.steps - before.steps, 1)
    drain(handles)
    return {
        "tokens_per_s": (after.tokens_computed - before.tokens_computed) / lasted,
        "step_ms": 1000 * lasted / steps,
        "host_ms": 1000 * max(lasted - waited, 0.0) / steps,
        "wait_ms": 1000 * waited / steps,
        "steps": steps,
        "mean_context": len(prompts[0]) + new / 2 if ended else len(prompts[0]) + steps / 2,
    }


def first_token(engine: TorchEngine, ids: Sequence[int]) -> float:
    """Seconds from submission to the first token."""
    started = time.perf_counter()
    handle = submit(engine, ids, 1)
    _begun(handle)
    return time.perf_counter() - started


def stall(
    engine: TorchEngine, streams: Sequence[Sequence[int]], long: Sequence[int], new: int
) -> dict[str, float]:
    """The longest gap between tokens of running streams while a long prompt is read."""
    handles = [submit(engine, ids, new, seed=seed) for seed, ids in enumerate(streams)]
    for handle in handles:
        _begun(handle)
    live = list(handles)
    alone = _gaps(live, lambda: False, 0.3)
    reading = submit(engine, long, 1)
    beside = _gaps(live, lambda: reading.poll() is not None, 60.0)
    drain(live)
    return {
        "gap_alone_ms": 1000 * statistics.median(alone) if alone else float("nan"),
        "longest_gap_ms": 1000 * max(beside, default=float("nan")),
        "median_gap_ms": 1000 * statistics.median(beside) if beside else float("nan"),
    }


def _gaps(live: list[RequestHandle], over: Callable[[], bool], most: float) -> list[float]:
    """Times between tokens until ``over``; a stream that ends leaves ``live``."""
    gaps: list[float] = []
    last = dict.fromkeys(live, time.perf_counter())
    until = time.perf_counter() + most
    while live and time.perf_counter() < until and not over():
        for handle in list(live):
            chunk = handle.poll()
            if chunk is None:
                continue
            now = time.perf_counter()
            gaps.append(now - last[handle])
            last[handle] = now
            if chunk.finished is not None:
                live.remove(handle)
        time.sleep(0.0005)
    return gaps


def limits(device: torch.device, *, tiny: bool) -> dict[str, float]:
    """Copy bandwidth (bytes read and written) and the rate of a large product, on random data."""
    numbers = 2**20 if tiny else 2**29
    source = torch.randn(numbers, device=device, dtype=torch.float32)
    target = torch.empty_like(source)
    copied = _fastest(lambda: target.copy_(source), device)
    side = 256 if tiny else 8_192
    left, right = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    multiplied = _fastest(lambda: left @ right, device)
    return {
        "copy_gb_per_s": 2 * 4 * numbers / copied / 1e9,
        "matmul_tflop_per_s": 2 * side**3 / multiplied / 1e12,
    }


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Median seconds of a call, warm."""
    times = []
    for _ in range(8):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
