"""Measure: timings of a loaded runtime on random prompts. It prints nothing and loads nothing."""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from typing import Any, Final

from aquila2_runtime.runtime import Aquila2Runtime
from aquila2_runtime.sampling import SamplingParams

_AT_ONCE: Final = (1, 8, 32)


class Measure:
    """What a runtime does in seconds.

    Prompts are random ids, new ones each time, so that nothing is found in the prefix cache unless
    it is meant to be; answers are as long as asked, whatever the model would say.

    Args:
        runtime: What is measured.
        prompt_tokens: Of each prompt; shortened where the context is too short.
        new_tokens: Of each answer; the same.
        rounds: Medians are of so many.
    """

    def __init__(
        self, runtime: Aquila2Runtime, prompt_tokens: int, new_tokens: int, rounds: int
    ) -> None:
        self._runtime = runtime
        longest = runtime.info.max_model_len
        self._new = min(new_tokens, max(longest // 2, 2))
        self._prompt = min(prompt_tokens, longest - self._new)
        self._rounds = rounds
        self._random = random.Random(0)

    def all(self) -> dict[str, Any]:
        """Everything, by section; seconds are milliseconds where the name says so."""
        self._answer([self._ids(self._prompt)])  # the first use of a shape costs more
        info = self._runtime.info
        return {
            "setting": {
                "model": info.model,
                "device": info.device,
                "dtype": info.dtype,
                "quantization": info.quantization,
                "attention": info.attention,
                "prompt_tokens": self._prompt,
                "new_tokens": self._new,
                "rounds": self._rounds,
            },
            "latency": self._latency(),
            "tokens_per_second": {str(count): self._throughput(count) for count in _AT_ONCE},
            "prefix": self._prefix(),
            "memory": self._memory(),
        }

    def _latency(self) -> dict[str, float]:
        firsts: list[float] = []
        between: list[float] = []
        for _ in range(self._rounds):
            started = last = time.perf_counter()
            times = []
            for delta in self._runtime.stream_complete(
                params=self._params(self._new), prompt_token_ids=self._ids(self._prompt)
            ):
                if delta.token_ids:
                    now = time.perf_counter()
                    # A reader that was late gets several ids at once.
                    times += [(now - last) / len(delta.token_ids)] * len(delta.token_ids)
                    last = now
            firsts.append(times[0] if times else last - started)
            between += times[1:]
        return {
            "first_token_ms": _ms(statistics.median(firsts)),
            "between_tokens_ms": _ms(statistics.median(between)),
        }

    def _throughput(self, count: int) -> float:
        rates = []
        for _ in range(self._rounds):
            prompts = [self._ids(self._prompt) for _ in range(count)]
            started = time.perf_counter()
            made = self._answer(prompts)
            rates.append(made / (time.perf_counter() - started))
        return round(statistics.median(rates), 1)

    def _prefix(self) -> dict[str, float]:
        """The first token after a long document, and again after another question on it."""
        cold: list[float] = []
        warm: list[float] = []
        question = 16
        length = max(self._runtime.info.max_model_len // 2 - question, 1)
        for _ in range(self._rounds):
            document = self._ids(length)
            for times in (cold, warm):
                prompt = document + self._ids(question)
                started = time.perf_counter()
                self._runtime.complete(params=self._params(1), prompt_token_ids=prompt)
                times.append(time.perf_counter() - started)
        return {
            "document_tokens": length,
            "cold_first_token_ms": _ms(statistics.median(cold)),
            "warm_first_token_ms": _ms(statistics.median(warm)),
        }

    def _memory(self) -> dict[str, float | None]:
        info = self._runtime.info
        return {
            "weights_mib": round(info.weight_bytes / 2**20, 1),
            "kv_cache_mib": round(info.kv_cache_bytes / 2**20, 1),
            "peak_mib": _peak_mib(info.device),
        }

    def _answer(self, prompts: list[list[int]]) -> int:
        async def ask() -> int:
            outputs = await asyncio.gather(
                *(
                    self._runtime.acomplete(params=self._params(self._new), prompt_token_ids=ids)
                    for ids in prompts
                )
            )
            return sum(len(output.token_ids) for output in outputs)

        return asyncio.run(ask())

    def _params(self, count: int) -> SamplingParams:
        return SamplingParams(temperature=0, max_tokens=count, ignore_eos=True)

    def _ids(self, count: int) -> list[int]:
        return self._random.choices(range(self._runtime.tokenizer.n_vocab), k=count)


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)


def _peak_mib(device: str) -> float | None:
    """Most memory so far: the device's, or the process's; None where the system does not say."""
    if device.startswith("cuda"):
        import torch

        peaks = [torch.cuda.max_memory_allocated(name) for name in device.split(", ")]
        return round(sum(peaks) / 2**20, 1)
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
