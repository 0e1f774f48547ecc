"""Parts: a step's overhead, the sampler, the adapters and stalls, beside what each is compared to.

Two things take turns in one process, and medians and their ratios are reported.
``python -m benchmarks.parts overhead sampler adapters stall``
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.limits import limits, machine
from benchmarks.models import SHAPES, checkpoint
from benchmarks.report import tell

ROOT = Path(__file__).resolve().parent.parent


def in_turn(rounds: int, *works: Callable[[], float]) -> list[float]:
    """Median seconds of some works that take turns, the first turn left out."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(rounds + 1):
        for work, own in zip(works, times, strict=True):
            seconds = work()
            if turn:
                own.append(seconds)
    return [statistics.median(own) for own in times]


def timed(work: Callable[[], Any]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def overhead(directory: Path, rounds: int) -> dict[str, float]:
    """A whole step of the engine, sampling and hand-over included, beside a bare forward pass.

    Kernels of this model cost next to nothing: 32 layers, 64 wide.
    """
    from transformers import DynamicCache, LlamaForCausalLM

    from aquila2_runtime import Aquila2Runtime, SamplingParams
    from benchmarks.models import as_llama

    # One thread each: the engine has one of its own, and two pools of workers wait for each other.
    torch.set_num_threads(1)
    path, steps, prompt = checkpoint("narrow", directory), 48, 8
    reference = LlamaForCausalLM.from_pretrained(
        as_llama(path, directory), dtype=torch.float32
    ).eval()
    found: dict[str, float] = {}
    with Aquila2Runtime.load(str(path), device="cpu", dtype="float32") as runtime:
        for rows in (1, 32):

            def theirs(rows: int = rows) -> float:
                cache = DynamicCache()
                with torch.inference_mode():
                    reference(torch.ones(rows, prompt, dtype=torch.long), past_key_values=cache)
                    ids = torch.ones(rows, 1, dtype=torch.long)
                    return timed(
                        lambda: [reference(ids, past_key_values=cache) for _ in range(steps)]
                    )

            def ours(rows: int = rows) -> float:
                def ask(new: int) -> float:
                    async def go() -> None:
                        params = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True)
                        prompts = torch.randint(300, 900, (rows, prompt)).tolist()
                        await asyncio.gather(
                            *(runtime.acomplete(None, params, prompt_token_ids=p) for p in prompts)
                        )

                    return timed(lambda: asyncio.run(go()))

                # The prompts' own time is taken off.
                return ask(steps + 1) - ask(1)

            mine, other = in_turn(rounds, ours, theirs)
            found |= {
                f"step_ms_{rows}": mine / steps * 1e3,
                f"transformers_forward_ms_{rows}": other / steps * 1e3,
                f"ratio_{rows}": mine / other,
            }
    return found


def sampler(directory: Path, rounds: int) -> dict[str, float]:
    """One top-p token, and 32, of 100,008 entries beside transformers' processors."""
    from transformers.generation.logits_process import (
        LogitsProcessorList,
        TemperatureLogitsWarper,
        TopPLogitsWarper,
    )

    from aquila2_runtime import SamplingParams
    from aquila2_runtime.engine.heap import keep_freed_memory
    from aquila2_runtime.engine.sampler import Sampler, SampleRow

    keep_freed_memory()  # as the engine does when it loads
    vocab, found = 100_008, {}
    processors = LogitsProcessorList([TemperatureLogitsWarper(0.8), TopPLogitsWarper(0.9)])
    own = Sampler(vocab, vocab)
    for count in (1, 32):
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(count, vocab, generator=generator) * 2
        # As trained models have it: most of the weight on some dozens of ids.
        logits[:, torch.randint(vocab, (60,), generator=generator)] += 12
        rows = [
            SampleRow.create(SamplingParams(temperature=0.8, top_p=0.9, seed=at), at, ())
            for at in range(count)
        ]

        def theirs(logits: torch.Tensor = logits) -> None:
            torch.multinomial(processors(None, logits).softmax(-1), 1)

        def ours(logits: torch.Tensor = logits, rows: list[SampleRow] = rows) -> None:
            own.sample(logits, rows)

        with torch.inference_mode():
            mine, other = in_turn(
                rounds * 3, lambda work=ours: timed(work), lambda work=theirs: timed(work)
            )
        found |= {
            f"sampler_ms_{count}": mine * 1e3,
            f"transformers_ms_{count}": other * 1e3,
            f"ratio_{count}": mine / other,
        }
    return found


def adapters(directory: Path, rounds: int) -> dict[str, float]:
    """Throughput through both adapters beside the runtime's own."""
    from langchain_core.messages import HumanMessage
    from llama_index.core.llms import ChatMessage

    from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
    from langchain_aquila2 import ChatAquila2
    from llamaindex_aquila2 import Aquila2

    path, new = str(checkpoint("25M", directory)), 64
    # Pairs of bytes: some hundred tokens.
    questions = [
        f"{number} " + "what is the time in the town by the sea " * 6 for number in range(8)
    ]
    options: dict[str, Any] = {"device": "cpu", "dtype": "bfloat16", "template": "aquila-v1"}
    with Aquila2Runtime.load(path, **options) as runtime:
        params = SamplingParams(temperature=0, max_tokens=new)
        chat = ChatAquila2(model=path, **options, temperature=0, max_tokens=new)
        llm = Aquila2(model=path, **options, temperature=0, max_tokens=new)

        def own() -> Any:
            return runtime.chat_batch([[Message("user", text)] for text in questions], params)

        def langchain() -> Any:
            return chat.batch([[HumanMessage(text)] for text in questions])

        def llamaindex() -> Any:
            async def ask() -> Any:
                return await asyncio.gather(
                    *(llm.achat([ChatMessage(role="user", content=text)]) for text in questions)
                )

            return asyncio.run(ask())

        base, chain, index = in_turn(
            rounds, lambda: timed(own), lambda: timed(langchain), lambda: timed(llamaindex)
        )
    return {
        "runtime_s": base,
        "langchain_throughput": base / chain,
        "llamaindex_throughput": base / index,
    }


def stall(directory: Path, rounds: int) -> dict[str, float]:
    """How long a running answer waits for a token while a prompt of 12,000 is read beside it."""
    from aquila2_runtime import Aquila2Runtime, SamplingParams

    document, many = 12_000, SamplingParams(temperature=0, max_tokens=2_000, ignore_eos=True)
    gaps: dict[str, list[float]] = {"alone": [], "beside": [], "read": []}
    with Aquila2Runtime.load(
        str(checkpoint("25M-16K", directory)), device="cpu", dtype="bfloat16"
    ) as runtime:

        async def once() -> None:
            stream = runtime.astream_complete(
                None, many, prompt_token_ids=torch.randint(300, 8_000, (64,)).tolist()
            )
            prompt = torch.randint(300, 8_000, (document,)).tolist()
            last, between = 0.0, list[float]()
            reader: asyncio.Task[Any] | None = None
            started = 0.0
            async for _ in stream:
                now = time.perf_counter()
                if last:
                    between.append(now - last)
                last = now
                if reader is None and len(between) == 100:
                    gaps["alone"].append(statistics.median(between))
                    between, started = [], now
                    one = SamplingParams(temperature=0, max_tokens=1)
                    reader = asyncio.create_task(
                        runtime.acomplete(None, one, prompt_token_ids=prompt)
                    )
                if reader is not None and reader.done():
                    break
            await stream.aclose()
            gaps["beside"].append(max(between))
            gaps["read"].append(last - started)

        for _ in range(rounds + 1):
            asyncio.run(once())
    return {
        "token_ms_alone": statistics.median(gaps["alone"][1:]) * 1e3,
        "longest_wait_ms_beside": statistics.median(gaps["beside"][1:]) * 1e3,
        "prompt_read_s": statistics.median(gaps["read"][1:]),
    }


PARTS = {"overhead": overhead, "sampler": sampler, "adapters": adapters, "stall": stall}


def main() -> None:
    """Measure the parts the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts")
    parser.add_argument("parts", nargs="+", choices=sorted(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=ROOT / ".benchmarks")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    threads = torch.get_num_threads()
    for name in options.parts:
        figures = PARTS[name](options.directory, options.rounds)
        found[name] = {key: round(value, 4) for key, value in figures.items()}
        torch.set_num_threads(threads)  # a part may want fewer
    facts = {"machine": machine(), "limits": limits(), "shapes": sorted(SHAPES)}
    tell({**facts, **found}, options.out)


if __name__ == "__main__":
    main()
