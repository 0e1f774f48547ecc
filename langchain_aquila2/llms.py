"""Aquila2LLM: plain completion, for base models, as a LangChain LLM. It uses no template."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult

from langchain_aquila2._results import ending, openai_logprobs, token_usage
from langchain_aquila2._settings import Aquila2Settings
from langchain_aquila2.errors import translating

if TYPE_CHECKING:
    from aquila2_runtime.outputs import (
        CompletionOutput,
        Delta,
        FinishReason,
        RequestOutput,
        Timings,
    )
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

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Whether ``dumpd`` keeps the constructor's arguments: yes, and no weights or secrets."""
        return True

    def to_json(self) -> Any:
        """Return the constructor's arguments; a wrapped runtime cannot be written down."""
        return super().to_json() if self.runtime is None else self.to_json_not_implemented()


def _result(runtime: Aquila2Runtime, outputs: list[RequestOutput]) -> LLMResult:
    generations = [
        [
            Generation(
                text=choice.text,
                generation_info=_info(
                    runtime, choice.finish_reason, choice, output.timings, output.notices
                ),
            )
            for choice in output.choices
        ]
        for output in outputs
    ]
    counts = token_usage(output.usage for output in outputs)
    return LLMResult(generations=generations, llm_output={"token_usage": counts})


def _chunk(runtime: Aquila2Runtime, delta: Delta) -> GenerationChunk:
    if delta.finish_reason is not None:
        info = _info(runtime, delta.finish_reason, delta, delta.timings, delta.notices)
        return GenerationChunk(text=delta.text, generation_info=info)
    logprobs = _logprobs(runtime, delta)
    return GenerationChunk(text=delta.text, generation_info=logprobs or None)


def _info(
    runtime: Aquila2Runtime,
    reason: FinishReason,
    answer: CompletionOutput | Delta,
    timings: Timings | None,
    notices: Sequence[str],
) -> dict[str, Any]:
    ended = ending(
        model=runtime.info.model,
        template=runtime.info.template,
        reason=reason.value,
        stop_reason=answer.stop_reason,
        timings=timings,
        notices=notices,
    )
    return {**ended, **_logprobs(runtime, answer)}


def _logprobs(runtime: Aquila2Runtime, answer: CompletionOutput | Delta) -> dict[str, Any]:
    if answer.logprobs is None:
        return {}
    return {"logprobs": openai_logprobs(answer.logprobs, runtime.tokenizer.token_bytes)}
