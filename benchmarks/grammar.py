"""What constraints cost: tokens a second with and without them, at 1 and 8 requests.

Ratios are of processor time on CPU, so that other work on the machine does not count, and of wall
time on a device. Run it with ``python benchmarks/grammar.py [MODEL] [--device cuda]``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

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
# Each with what it is compared with: the same prompt, free.
CASES: dict[str, tuple[list[Message], SamplingParams, dict[str, object], str]] = {
    "free": (ASK, SamplingParams(ignore_eos=True), {}, "free"),
    "schema": (ASK, SamplingParams(constraint=JsonSchema(PERSON)), {}, "free"),
    "any JSON": (ASK, SamplingParams(constraint=AnyJson()), {}, "free"),
    "regex": (ASK, SamplingParams(constraint=Regex(r"(.|\n){100,}")), {}, "free"),
    "tools shown": (SHOWN, SamplingParams(min_tokens=128), {}, "tools shown"),
    "tools, auto": (ASK, SamplingParams(min_tokens=128), {"tools": TOOLS}, "tools shown"),
}


def rate(
    runtime: Aquila2Runtime, case: str, count: int, temperature: float, clock: Callable[[], float]
) -> float:
    messages, params, request, _ = CASES[case]
    params = params.replace(max_tokens=128, temperature=temperature, seed=1)
    began = clock()
    outputs = runtime.chat_batch([messages] * count, params, **request)
    return sum(out.usage.completion_tokens for out in outputs) / (clock() - began)


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
                rates: dict[str, list[float]] = {case: [] for case in CASES}
                # Interleaved, so that a change of the machine's speed meets all of them.
                for turn in range(options.repeat + 1):
                    for case in CASES:
                        found = rate(runtime, case, count, temperature, clock)
                        if turn:
                            rates[case].append(found)
                for case, found_rates in rates.items():
                    median = statistics.median(found_rates)
                    free = statistics.median(rates[CASES[case][3]])
                    print(
                        f"temperature {temperature}  {count} requests  {case:12}"
                        f" {median:8.0f} tokens/s  {median / free:.2f}x free"
                    )


if __name__ == "__main__":
    main()
