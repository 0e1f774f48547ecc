"""What constraints cost: tokens a second with and without them, at 1 and 8 requests.

Ratios are of processor time on CPU, so that other work on the machine does not count, and of wall
time on a device. An answer that ends by itself is compared with a free one of as many tokens.
Run it with ``python benchmarks/grammar.py [MODEL] [--device cuda]``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from aquila2_runtime import (
    AnyJson,
    Aquila2Runtime,
    JsonSchema,
    Message,
    Regex,
    SamplingParams,
    Tool,
)
from aquila2_runtime.tools import tools_text

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "note": {"type": "string", "minLength": 80},
    },
    "required": ["name", "note"],
}
ASK = [Message("user", "My name is Lena and I am 30 years old. Tell me about it in JSON.")]
TOOLS = [Tool("find", "Find it.", {"properties": {"q": {"type": "string"}}, "required": ["q"]})]
SHOWN = [Message("system", tools_text(TOOLS)), *ASK]
CASES: dict[str, tuple[list[Message], SamplingParams, dict[str, Any]]] = {
    "free": (ASK, SamplingParams(ignore_eos=True), {}),
    "tools shown": (SHOWN, SamplingParams(min_tokens=1), {}),
    "schema": (ASK, SamplingParams(constraint=JsonSchema(PERSON)), {}),
    "any JSON": (ASK, SamplingParams(constraint=AnyJson()), {}),
    "regex": (ASK, SamplingParams(constraint=Regex(r"(.|\n){100,}")), {}),
    "tools, auto": (ASK, SamplingParams(min_tokens=1), {"tools": TOOLS}),
}
BOUND = ("schema", "any JSON", "regex", "tools, auto")


def rate(
    runtime: Aquila2Runtime,
    case: str,
    lengths: Sequence[int],
    temperature: float,
    clock: Callable[[], float],
) -> tuple[float, list[int]]:
    """Tokens a second of a case whose answers may have so many tokens, and how many they had."""
    messages, params, request = CASES[case]
    asked = [
        params.replace(
            max_tokens=length,
            # Where tools are shown the end is barred: a grammar for calls allows no ignore_eos.
            min_tokens=length if params.min_tokens else 0,
            temperature=temperature,
            seed=1,
        )
        for length in lengths
    ]
    began = clock()
    outputs = runtime.chat_batch([messages] * len(asked), asked, **request)
    counts = [len(out.token_ids) for out in outputs]
    return sum(counts) / (clock() - began), counts


def compare(
    runtime: Aquila2Runtime,
    case: str,
    count: int,
    temperature: float,
    clock: Callable[[], float],
    repeat: int,
) -> tuple[float, float]:
    """A case's rate and its ratio to the free one's, medians of runs that take turns."""
    free = "tools shown" if case.startswith("tools") else "free"
    rates: list[float] = []
    ratios: list[float] = []
    for turn in range(repeat + 1):
        bound, lengths = rate(runtime, case, [128] * count, temperature, clock)
        plain, _ = rate(runtime, free, lengths, temperature, clock)
        if turn:
            rates.append(bound)
            ratios.append(bound / plain)
    return statistics.median(rates), statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="aquila2-demo")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    with Aquila2Runtime.load(options.model, device=options.device) as runtime:
        for temperature in (0.0, 1.0):
            for count in (1, 8):
                for case in BOUND:
                    found, ratio = compare(runtime, case, count, temperature, clock, options.repeat)
                    print(
                        f"temperature {temperature}  {count} requests  {case:12}"
                        f" {found:8.0f} tokens/s  {ratio:.2f}x free",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
