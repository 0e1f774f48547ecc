"""Cost: what LlamaIndex's layer takes beside an answer, and counting tokens beside its default."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.node_parser import SentenceSplitter

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.conformance.timing import least
from tests.llamaindex.support import ENDPOINTS, QUESTION, MakeLLM, argument

NEW = 64
READMES = {"en": "README.md", "zh": "README.zh-CN.md"}
# What the bar says of answers. The demo takes a millisecond for a token, a model of seven billion
# parameters ten at least, so that of its streams this is a hundredth.
MOST_OF_AN_ANSWER = 0.05
MOST_OF_A_STREAM = 0.1
MOST_OF_THE_DEFAULT = 2.0


def run(owner: Any, endpoint: str, *given: Any, **kwargs: Any) -> None:
    """Call an endpoint of a model or of a runtime and read it to its end."""

    async def arun() -> None:
        result = getattr(owner, endpoint)(*given, **kwargs)
        if asyncio.iscoroutine(result):
            result = await result
        if "stream" in endpoint:
            async for _ in result:
                pass

    if endpoint.startswith("a"):
        asyncio.run(arun())
        return
    result = getattr(owner, endpoint)(*given, **kwargs)
    for _ in result if "stream" in endpoint else ():
        pass


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="no clocks of threads here")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_h23_the_layer_costs_a_twentieth_of_an_answer_at_most(
    make_llm: MakeLLM, demo_runtime: Aquila2Runtime, endpoint: str
) -> None:
    """In processor seconds: what all threads but the model's spend more, against the model's."""
    llm, own = make_llm(max_tokens=NEW, ignore_eos=True), endpoint.replace("complete", "chat")
    params = SamplingParams(temperature=0, max_tokens=NEW, ignore_eos=True)
    clock = time.pthread_getcpuclockid(demo_runtime._model().engine._thread.ident or 0)

    def cost(call: Callable[[], None]) -> tuple[float, float]:
        begun, model = time.process_time(), time.clock_gettime(clock)
        call()
        model = time.clock_gettime(clock) - model
        return time.process_time() - begun - model, model

    def share() -> float:
        through, _ = cost(lambda: run(llm, endpoint, argument(endpoint, QUESTION)))
        bare, model = cost(lambda: run(demo_runtime, own, [Message("user", QUESTION)], params))
        return (through - bare) / model

    bound = MOST_OF_A_STREAM if "stream" in endpoint else MOST_OF_AN_ANSWER
    assert least(share, bound) <= bound


@pytest.mark.parametrize("lang", READMES)
def test_h23_splitting_takes_at_most_twice_what_it_does_by_the_default_tokenizer(
    root: Path, demo_model: str, lang: str
) -> None:
    """Of prose that is new to the tokenizer; most of its words come again."""
    paths = [root / READMES[lang], *(root / "examples" / "documents").glob(f"*_{lang}.txt")]
    text = "\n\n".join(path.read_text("utf-8") for path in paths)
    assert len(text) > 8_000
    # The default is LlamaIndex's own, as it is where nobody sets another.
    default = SentenceSplitter(chunk_size=200)

    def seconds(splitter: SentenceSplitter) -> float:
        begun = time.thread_time()
        assert len(splitter.split_text(text)) > 5
        return time.thread_time() - begun

    def ratio() -> float:
        fresh = Aquila2(demo_model, template="aquila-v1").node_parser(chunk_size=200)
        return seconds(fresh) / min(seconds(default) for _ in range(3))

    assert least(ratio, MOST_OF_THE_DEFAULT) <= MOST_OF_THE_DEFAULT
