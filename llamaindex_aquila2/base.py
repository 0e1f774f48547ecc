"""Aquila2: LlamaIndex's eight endpoints over one runtime. It knows no tensors and no templates."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)

from aquila2_runtime import InvalidPromptError, Message
from aquila2_runtime.shown import shown
from llamaindex_aquila2._calls import Call
from llamaindex_aquila2._endpoints import chat_endpoint, completion_endpoint
from llamaindex_aquila2._messages import is_brief, plain_prompt, to_runtime_messages
from llamaindex_aquila2._own_prompts import own_functions
from llamaindex_aquila2._params import CHAT_KEYWORDS, call_options
from llamaindex_aquila2._responses import Answer, Stream, whole
from llamaindex_aquila2._structured import Structured

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from aquila2_runtime import Aquila2Runtime

Response = TypeVar("Response", ChatResponse, CompletionResponse)


class Aquila2(Structured):
    """A local Aquila2 model for LlamaIndex.

    Constructing reads nothing; the weights load at the first call or by ``warmup()``. Objects for
    the same checkpoint share its weights, in this and other threads, and with the other adapter.
    Concurrent calls are computed together. See ``Fields`` for every keyword.

    Example:
        >>> llm = Aquila2(model="AquilaChat2-7B", quantization="nf4", max_tokens=256)
        >>> llm.complete("北京有哪些景点？").text

    What is sent to the model:
        * ``chat``: the messages through the checkpoint's chat template. All system messages are
          merged into one; ``system_prompt`` goes before them unless it is among them already. A
          ``messages_to_prompt`` of your own makes the whole prompt instead, as plain text.
        * ``complete(prompt)``: one user message, after ``system_prompt``. A
          ``completion_to_prompt`` of your own makes the whole prompt instead, as plain text.
        * ``complete(prompt, formatted=True)``: the text exactly as it is, without template.
        * With ``is_chat_model=False`` everything is plain text: ``complete`` continues its
          prompt, after ``system_prompt``; ``chat`` writes ``role: text`` lines.

    Plain text never yields control tokens, whatever it spells.

    Every endpoint takes ``max_tokens`` (or ``max_new_tokens``), ``temperature``, ``top_p``,
    ``top_k``, ``min_p``, ``repetition_penalty``, ``presence_penalty``, ``frequency_penalty``,
    ``seed``, ``stop`` (added to the constructor's), ``logprobs`` and the other fields of
    ``SamplingParams`` but ``n`` and ``prompt_logprobs``, for which a response has no place;
    ``answer_limit`` (a ``max_tokens`` that is less where a long prompt leaves less), ``fit``,
    ``cache_salt``, ``timeout``, ``adapter`` and ``progress`` (a function that is told how much of a
    long prompt is read); ``chat`` and its kin also ``tools``, ``tool_choice`` and
    ``parallel_tool_calls``. ``extra_headers`` means nothing; any other keyword raises
    ``UnknownParameterError``.

    ``response.raw`` holds ``usage``, ``finish_reason``, ``stop_reason``, ``model``, ``timings`` and
    ``notices``; in a stream the last chunk does.
    """

    # Chat

    @chat_endpoint
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation.

        Args:
            messages: The turns, oldest first. A trailing assistant message is continued.
            **kwargs: See the class.

        Raises:
            InvalidRequestError: The request is wrong; nothing was computed.
            EngineError: It could not be finished.
        """
        runtime, call = self._ready(self._chat_call, messages, kwargs)
        return whole(call.run(runtime), runtime.tokenizer.token_bytes).chat()

    @chat_endpoint
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a conversation piece by piece; closing the generator stops the work."""
        runtime, call = self._ready(self._chat_call, messages, kwargs)
        return _stream(runtime, call, Answer.chat)

    @chat_endpoint
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation without blocking the event loop; cancelling stops the work."""
        runtime, call = await self._aready(self._chat_call, messages, kwargs)
        return whole(await call.arun(runtime), runtime.tokenizer.token_bytes).chat()

    @chat_endpoint
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Return an async generator of the answer's pieces."""
        runtime, call = await self._aready(self._chat_call, messages, kwargs)
        return _astream(runtime, call, Answer.chat)

    # Completion

    @completion_endpoint
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer or continue a text.

        Args:
            prompt: The text.
            formatted: Whether it is the whole prompt already; see the class.
            **kwargs: See the class.

        Raises:
            InvalidRequestError: The request is wrong; nothing was computed.
            EngineError: It could not be finished.
        """
        runtime, call = self._ready(self._completion_call, prompt, formatted, kwargs)
        return whole(call.run(runtime), runtime.tokenizer.token_bytes).completion()

    @completion_endpoint
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Answer or continue a text piece by piece; closing the generator stops the work."""
        runtime, call = self._ready(self._completion_call, prompt, formatted, kwargs)
        return _stream(runtime, call, Answer.completion)

    @completion_endpoint
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Answer or continue a text without blocking the event loop."""
        runtime, call = await self._aready(self._completion_call, prompt, formatted, kwargs)
        return whole(await call.arun(runtime), runtime.tokenizer.token_bytes).completion()

    @completion_endpoint
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Return an async generator of the answer's pieces."""
        runtime, call = await self._aready(self._completion_call, prompt, formatted, kwargs)
        return _astream(runtime, call, Answer.completion)

    # From arguments to a checked call; no decorated endpoint calls another

    def _ready(self, make: Callable[..., Call], *args: Any) -> tuple[Aquila2Runtime, Call]:
        """Check the request first, then find or load the runtime."""
        call = make(*args)
        return self._lease.runtime(), call

    async def _aready(self, make: Callable[..., Call], *args: Any) -> tuple[Aquila2Runtime, Call]:
        """In a thread, because files may be read and own functions called, unless it is brief."""
        plain = own_functions(self) == (None, None)
        prompt, keywords = args[0], args[-1]
        if plain and self._lease.at_hand and is_brief(prompt) and not keywords.get("tools"):
            return self._ready(make, *args)
        return await asyncio.to_thread(self._ready, make, *args)

    def _chat_call(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Call:
        options = call_options(self._call_defaults(), kwargs, CHAT_KEYWORDS)
        self._lease.check_adapter(options.request.get("adapter"))
        # Converted in any case: what is wrong with the messages is said before anything loads.
        converted = to_runtime_messages(messages, self.system_prompt)
        own = own_functions(self).messages_to_prompt
        if own is None and self._chats():
            return Call(messages=converted, text=None, options=options)
        system = self.system_prompt
        if system and all(message.content != system for message in messages):
            messages = self._extend_messages(list(messages))
        text = (own or plain_prompt)(messages)
        return Call(messages=None, text=_prompt("messages_to_prompt", text), options=options)

    def _completion_call(self, prompt: str, formatted: bool, kwargs: dict[str, Any]) -> Call:
        options = call_options(self._call_defaults(), kwargs)
        self._lease.check_adapter(options.request.get("adapter"))
        if formatted:
            return Call(messages=None, text=prompt, options=options)
        own = own_functions(self).completion_to_prompt
        if own is not None:
            text = _prompt("completion_to_prompt", own(prompt))
            return Call(messages=None, text=text, options=options)
        if not self._chats():
            return Call(messages=None, text=self._extend_prompt(prompt), options=options)
        if self.query_wrapper_prompt is not None:
            prompt = self.query_wrapper_prompt.format(query_str=prompt)
        messages = [Message("user", prompt)]
        if self.system_prompt:
            messages.insert(0, Message("system", self.system_prompt))
        return Call(messages=messages, text=None, options=options)


def _prompt(function: str, made: object) -> str:
    """What a function of the caller's own made, if it is a prompt."""
    if not isinstance(made, str) or not made:
        raise InvalidPromptError(
            f"{function} returned {shown(made)}; it must return a non-empty string.",
            parameter=function,
            value=made,
        )
    return made


def _stream(
    runtime: Aquila2Runtime, call: Call, shape: Callable[[Answer], Response]
) -> Generator[Response]:
    """Start now, so that a wrong request raises here; read when iterated."""
    deltas = call.stream(runtime)

    def generate() -> Generator[Response]:
        stream = Stream(runtime.info.model, runtime.tokenizer.token_bytes)
        with contextlib.closing(deltas):
            for delta in deltas:
                yield shape(stream.add(delta))

    return generate()


async def _astream(
    runtime: Aquila2Runtime, call: Call, shape: Callable[[Answer], Response]
) -> AsyncGenerator[Response]:
    stream = Stream(runtime.info.model, runtime.tokenizer.token_bytes)
    async with contextlib.aclosing(call.astream(runtime)) as deltas:
        async for delta in deltas:
            yield shape(stream.add(delta))
