"""Call: one checked request, and the four ways to run it on a runtime. It knows no LlamaIndex."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

from aquila2_runtime import ContextOverflowError, Delta, Message, RequestOutput, SamplingParams
from llamaindex_aquila2._params import CallOptions, default_limit

if TYPE_CHECKING:
    from aquila2_runtime import Aquila2Runtime


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A prompt and what to do with it.

    Attributes:
        messages: A conversation for the chat template; None when ``text`` is set.
        text: Plain text, no template.
        options: Sampling and request options.
    """

    messages: list[Message] | None
    text: str | None
    options: CallOptions

    def run(self, runtime: Aquila2Runtime) -> RequestOutput:
        """Answer whole."""
        params, request = self._for(runtime)
        try:
            return self._run(runtime, params, request)
        except ContextOverflowError as error:
            return self._run(runtime, self._shorter(params, error), request)

    async def arun(self, runtime: Aquila2Runtime) -> RequestOutput:
        """Answer whole without blocking the event loop."""
        params, request = self._for(runtime)
        try:
            return await self._arun(runtime, params, request)
        except ContextOverflowError as error:
            return await self._arun(runtime, self._shorter(params, error), request)

    def stream(self, runtime: Aquila2Runtime) -> Generator[Delta]:
        """Answer piece by piece; the request is checked and starts now."""
        params, request = self._for(runtime)
        try:
            return self._stream(runtime, params, request)
        except ContextOverflowError as error:
            return self._stream(runtime, self._shorter(params, error), request)

    async def astream(self, runtime: Aquila2Runtime) -> AsyncGenerator[Delta]:
        """Answer piece by piece without blocking the event loop."""
        params, request = self._for(runtime)
        try:
            async with contextlib.aclosing(self._astream(runtime, params, request)) as deltas:
                async for delta in deltas:
                    yield delta
            return
        except ContextOverflowError as error:
            # Raised before the first delta, if at all.
            params = self._shorter(params, error)
        async with contextlib.aclosing(self._astream(runtime, params, request)) as deltas:
            async for delta in deltas:
                yield delta

    def _for(self, runtime: Aquila2Runtime) -> tuple[SamplingParams, dict[str, Any]]:
        """Fill the default limit; drop a default ``fit`` where there is no conversation."""
        params, request = self.options.params, self.options.request
        if params.max_tokens is None:
            limit = default_limit(runtime.info.max_model_len)
            params = params.replace(max_tokens=max(limit, params.min_tokens))
        if self.messages is None and self.options.fit_is_default:
            request = {name: value for name, value in request.items() if name != "fit"}
        return params, request

    def _shorter(self, params: SamplingParams, error: ContextOverflowError) -> SamplingParams:
        """The default limit gives way to what is left of the context; an explicit one does not."""
        if self.options.params.max_tokens is not None:
            raise error
        if error.prompt_tokens >= error.max_model_len:
            if type(error) is not ContextOverflowError:
                raise error
            # Not the limit is at fault, which nobody asked for, but the prompt.
            raise ContextOverflowError(error.prompt_tokens, None, error.max_model_len) from None
        return params.replace(max_tokens=None)

    def _run(
        self, runtime: Aquila2Runtime, params: SamplingParams, request: dict[str, Any]
    ) -> RequestOutput:
        if self.messages is not None:
            return runtime.chat(self.messages, params, **request)
        return runtime.complete(self.text, params, **request)

    async def _arun(
        self, runtime: Aquila2Runtime, params: SamplingParams, request: dict[str, Any]
    ) -> RequestOutput:
        if self.messages is not None:
            return await runtime.achat(self.messages, params, **request)
        return await runtime.acomplete(self.text, params, **request)

    def _stream(
        self, runtime: Aquila2Runtime, params: SamplingParams, request: dict[str, Any]
    ) -> Generator[Delta]:
        if self.messages is not None:
            return runtime.stream_chat(self.messages, params, **request)
        return runtime.stream_complete(self.text, params, **request)

    def _astream(
        self, runtime: Aquila2Runtime, params: SamplingParams, request: dict[str, Any]
    ) -> AsyncGenerator[Delta]:
        if self.messages is not None:
            return runtime.astream_chat(self.messages, params, **request)
        return runtime.astream_complete(self.text, params, **request)
