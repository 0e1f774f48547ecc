"""Call: one checked request, and the four ways to run it on a runtime. It knows no LlamaIndex."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

from aquila2_runtime import Delta, Message, RequestOutput, SamplingParams
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
        if self.messages is not None:
            return runtime.chat(self.messages, params, **request)
        return runtime.complete(self.text, params, **request)

    async def arun(self, runtime: Aquila2Runtime) -> RequestOutput:
        """Answer whole without blocking the event loop."""
        params, request = self._for(runtime)
        if self.messages is not None:
            return await runtime.achat(self.messages, params, **request)
        return await runtime.acomplete(self.text, params, **request)

    def stream(self, runtime: Aquila2Runtime) -> Generator[Delta]:
        """Answer piece by piece; the request is checked and starts now."""
        params, request = self._for(runtime)
        if self.messages is not None:
            return runtime.stream_chat(self.messages, params, **request)
        return runtime.stream_complete(self.text, params, **request)

    def astream(self, runtime: Aquila2Runtime) -> AsyncGenerator[Delta]:
        """Answer piece by piece without blocking the event loop."""
        params, request = self._for(runtime)
        if self.messages is not None:
            return runtime.astream_chat(self.messages, params, **request)
        return runtime.astream_complete(self.text, params, **request)

    def _for(self, runtime: Aquila2Runtime) -> tuple[SamplingParams, dict[str, Any]]:
        """Add the default limit; drop a default ``fit`` where there is no conversation."""
        request = dict(self.options.request)
        if self.messages is None and self.options.fit_is_default:
            request.pop("fit", None)
        request.setdefault("answer_limit", default_limit(runtime.info.max_model_len))
        return self.options.params, request
