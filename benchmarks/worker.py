"""One engine in a process of its own: reads workloads as JSON lines, writes seconds.

Run as ``python -m benchmarks.worker ENGINE DIRECTORY DTYPE``; under another Python for vLLM, so
nothing is imported here but what every Python has.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol

Prompts = Sequence[Sequence[int]]


class Engine(Protocol):
    """What is measured."""

    def run(self, prompts: Prompts, new_tokens: Sequence[int]) -> int:
        """Make exactly so many tokens of each prompt, greedily; returns how many in all."""


class Ours:
    """This runtime, as an application uses it: all requests awaited on one event loop."""

    def __init__(self, path: str, dtype: str) -> None:
        from aquila2_runtime import Aquila2Runtime, SamplingParams

        quantization = "nf4" if dtype == "nf4" else None
        self._params = SamplingParams
        self._runtime = Aquila2Runtime.load(
            path,
            device="cpu",
            dtype="bfloat16" if quantization else dtype,
            quantization=quantization,
            kv_cache_memory=os.environ.get("BENCH_KV", "2GiB"),
        )

    def run(self, prompts: Prompts, new_tokens: Sequence[int]) -> int:
        """See ``Engine``."""

        async def ask() -> int:
            outputs = await asyncio.gather(
                *(
                    self._runtime.acomplete(
                        params=self._params(temperature=0, max_tokens=count, ignore_eos=True),
                        prompt_token_ids=prompt,
                    )
                    for prompt, count in zip(prompts, new_tokens, strict=True)
                )
            )
            return sum(len(output.token_ids) for output in outputs)

        return asyncio.run(ask())


class Generate:
    """transformers' ``generate``: one batch, padded on the left, as long as its longest answer."""

    def __init__(self, path: str, dtype: str) -> None:
        import torch
        from transformers import LlamaForCausalLM

        self._torch = torch
        self._model = LlamaForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()

    def run(self, prompts: Prompts, new_tokens: Sequence[int]) -> int:
        """See ``Engine``; tokens beyond what a request asked for are made and not counted."""
        torch = self._torch
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        most = max(new_tokens)
        with torch.inference_mode():
            self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=most,
                min_new_tokens=most,
                do_sample=False,
                pad_token_id=0,
            )
        return sum(new_tokens)


class ContinuousBatching(Generate):
    """transformers' continuous batching."""

    def run(self, prompts: Prompts, new_tokens: Sequence[int]) -> int:
        """See ``Engine``."""
        from transformers import GenerationConfig

        config = GenerationConfig(
            do_sample=False, max_new_tokens=max(new_tokens), eos_token_id=-1, pad_token_id=0
        )
        manager = self._model.init_continuous_batching(generation_config=config)
        manager.start()
        try:
            for prompt, count in zip(prompts, new_tokens, strict=True):
                manager.add_request(list(prompt), max_new_tokens=count)
            made = ended = 0
            while ended < len(prompts):
                result = manager.get_result(timeout=120)
                if result is not None and result.is_finished():
                    ended += 1
                    made += len(result.generated_tokens)
        finally:
            manager.stop(block=True)
        return made


class Vllm:
    """vLLM's offline engine; the directory's config.json must say Llama."""

    def __init__(self, path: str, dtype: str) -> None:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
        from vllm import LLM, SamplingParams

        self._params = SamplingParams
        self._llm = LLM(path, dtype=dtype, max_model_len=8_192, skip_tokenizer_init=True)

    def run(self, prompts: Prompts, new_tokens: Sequence[int]) -> int:
        """See ``Engine``."""
        outputs = self._llm.generate(
            [{"prompt_token_ids": list(prompt)} for prompt in prompts],
            [
                self._params(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False)
                for count in new_tokens
            ],
            use_tqdm=False,
        )
        return sum(len(output.outputs[0].token_ids) for output in outputs)


ENGINES: dict[str, Any] = {
    "ours": Ours,
    "generate": Generate,
    "cb": ContinuousBatching,
    "vllm": Vllm,
}


def main() -> None:
    """Serve workloads until the input ends."""
    name, path, dtype = sys.argv[1:4]
    # Engines print; what the measurer reads goes to the real output alone.
    answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    os.dup2(2, 1)
    engine: Engine = ENGINES[name](path, dtype)
    print(json.dumps({"ready": name}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        started = time.perf_counter()
        tokens = engine.run(asked["prompts"], asked["new_tokens"])
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "tokens": tokens}), file=answers, flush=True)


if __name__ == "__main__":
    main()
