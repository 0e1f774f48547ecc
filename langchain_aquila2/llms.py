"""Aquila2LLM: plain completion, for base models, as a LangChain LLM. It uses no template."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from langchain_core.language_models import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from pydantic import PrivateAttr

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


# Keywords of LangChain's generate that say nothing of the answer.
_OF_RUNS: Final = frozenset({"tags", "metadata", "run_name", "run_id"})


class Aquila2LLM(Aquila2Settings, BaseLLM):
    """Aquila2 continuing plain text; the arguments are those of ``ChatAquila2``.

    Those that are a chat model's alone, such as ``function_calling``, are refused.

    ``streaming=True`` tells callbacks a lone prompt's text while it is written; several prompts are
    computed together and told when they end.

    A lone prompt whose ``timeout`` passes before its first token raises; one of several comes back
    empty, and ``generate`` says finish_reason "timeout" of it.
    """

    # What the call at hand says beside the fields; LangChain's cache keys leave it out.
    _said: dict[str, Any] = PrivateAttr(default_factory=dict)

    def generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Continue texts; caches and tracers are told the keywords of the call, too."""
        return super(Aquila2LLM, self._saying(kwargs)).generate(prompts, stop, callbacks, **kwargs)

    async def agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Continue texts without blocking the event loop; see ``generate``."""
        plain = super(Aquila2LLM, self._saying(kwargs)).agenerate
        return await plain(prompts, stop, callbacks, **kwargs)

    def _saying(self, kwargs: Mapping[str, Any]) -> Self:
        """A copy that shares everything with this object and knows what the call says."""
        copied = BaseLLM.__copy__(self)  # the claims too: ours makes new ones
        copied._said = {name: kwargs[name] for name in kwargs.keys() - _OF_RUNS}
        return copied

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        if self.streaming and len(prompts) == 1:
            return _joined([*self._stream(prompts[0], stop, run_manager, **kwargs)])
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
        if self.streaming and len(prompts) == 1:
            streamed = self._astream(prompts[0], stop, run_manager, **kwargs)
            return _joined([chunk async for chunk in streamed])
        with translating():
            request = self._request(stop, kwargs)
            runtime = await request.lease.aruntime()
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
                    chunk = _chunk(runtime, delta)
                    # LangChain tells callbacks of a chat model's chunks, and leaves an LLM's to it.
                    if run_manager is not None:
                        run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        with translating():
            request = self._request(stop, kwargs)
            runtime = await request.lease.aruntime()
            deltas = runtime.astream_complete(prompt, request.params, **request.options)
            async with contextlib.aclosing(deltas):
                async for delta in deltas:
                    chunk = _chunk(runtime, delta)
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    def get_token_ids(self, text: str) -> list[int]:
        """Return a text's ids, of the checkpoint's own tokenizer unless the caller gave one.

        Loads the checkpoint if need be.
        """
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        with translating():
            return self._lease.runtime().tokenizer.encode_ordinary(text)

    @property
    def _llm_type(self) -> str:
        return "aquila2"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        # LangChain writes a call's stops over "stop", which are only added to the object's own.
        return {**self._identity(), "own_stop": self.stop, **self._said}

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


def _joined(chunks: list[GenerationChunk]) -> LLMResult:
    """A streamed answer as a whole one."""
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    told = dict(whole.generation_info or {})
    counts = told.pop("token_usage", None)
    answer = Generation(text=whole.text, generation_info=told)
    return LLMResult(generations=[[answer]], llm_output={"token_usage": counts})


def _chunk(runtime: Aquila2Runtime, delta: Delta) -> GenerationChunk:
    if delta.finish_reason is not None:
        info = _info(runtime, delta.finish_reason, delta, delta.timings, delta.notices)
        if delta.usage is not None:
            info["token_usage"] = token_usage([delta.usage])
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
