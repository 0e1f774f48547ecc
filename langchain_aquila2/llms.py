"""Aquila2LLM: plain completion, for base models, as a LangChain LLM. It uses no template."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult

from langchain_aquila2._results import ending
from langchain_aquila2._settings import Aquila2Settings
from langchain_aquila2.errors import translating

if TYPE_CHECKING:
    from aquila2_runtime.outputs import Delta, RequestOutput
    from aquila2_runtime.runtime import Aquila2Runtime


class Aquila2LLM(Aquila2Settings, BaseLLM):
    """Aquila2 continuing plain text; the arguments are those of ``ChatAquila2``.

    A lone prompt whose ``timeout`` passes before its first token raises; one of several comes back
    empty, and ``generate`` says finish_reason "timeout" of it.
    """

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        with translating():
            request = self._request(stop, kwargs)
            runtime = request.lease.runtime()
            outputs = (
                [runtime.complete(prompts[0], request.params, **request.options)]
                if len(prompts) == 1
                else runtime.complete_batch(prompts, request.params, **request.options)
            )
            return _result(runtime, outputs)

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        with translating():
            request = self._request(stop, kwargs)
            runtime = await asyncio.to_thread(request.lease.runtime)
            outputs = (
                [await runtime.acomplete(prompts[0], request.params, **request.options)]
                if len(prompts) == 1
                else await runtime.acomplete_batch(prompts, request.params, **request.options)
            )
            return _result(runtime, outputs)

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        with translating():
            request = self._request(stop, kwargs)
            runtime = request.lease.runtime()
            deltas = runtime.stream_complete(prompt, request.params, **request.options)
            with contextlib.closing(deltas):
                for delta in deltas:
                    yield _chunk(runtime, delta)

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        with translating():
            request = self._request(stop, kwargs)
            runtime = await asyncio.to_thread(request.lease.runtime)
            deltas = runtime.astream_complete(prompt, request.params, **request.options)
            async with contextlib.aclosing(deltas):
                async for delta in deltas:
                    yield _chunk(runtime, delta)

    def get_token_ids(self, text: str) -> list[int]:
        """Return a text's ids under the checkpoint's own tokenizer; loads it if need be."""
        with translating():
            return self._lease.runtime().tokenizer.encode_ordinary(text)

    @property
    def _llm_type(self) -> str:
        return "aquila2"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return self._identity()


def _result(runtime: Aquila2Runtime, outputs: list[RequestOutput]) -> LLMResult:
    template = runtime.info.template
    generations = [
        [
            Generation(
                text=choice.text,
                generation_info=ending(
                    model=output.model,
                    template=template,
                    reason=choice.finish_reason.value,
                    stop_reason=choice.stop_reason,
                    timings=output.timings,
                    notices=output.notices,
                ),
            )
            for choice in output.choices
        ]
        for output in outputs
    ]
    counts = {
        "prompt_tokens": sum(output.usage.prompt_tokens for output in outputs),
        "completion_tokens": sum(output.usage.completion_tokens for output in outputs),
        "total_tokens": sum(output.usage.total_tokens for output in outputs),
    }
    return LLMResult(generations=generations, llm_output={"token_usage": counts})


def _chunk(runtime: Aquila2Runtime, delta: Delta) -> GenerationChunk:
    if delta.finish_reason is None:
        return GenerationChunk(text=delta.text)
    info = ending(
        model=runtime.info.model,
        template=runtime.info.template,
        reason=delta.finish_reason.value,
        stop_reason=delta.stop_reason,
        timings=delta.timings,
        notices=delta.notices,
    )
    return GenerationChunk(text=delta.text, generation_info=info)
