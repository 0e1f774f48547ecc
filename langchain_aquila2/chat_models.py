"""ChatAquila2: Aquila2 as a LangChain chat model. It knows no tokens, tensors or templates."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import LangSmithParams, ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import model_validator

from aquila2_runtime import InvalidPromptError
from langchain_aquila2._batches import Batches
from langchain_aquila2._messages import to_runtime_messages
from langchain_aquila2._results import ending, openai_logprobs, usage_metadata
from langchain_aquila2._settings import VERSION, Aquila2Settings
from langchain_aquila2.errors import translating

if TYPE_CHECKING:
    from typing import Self

    from aquila2_runtime.outputs import Delta, RequestOutput
    from aquila2_runtime.runtime import Aquila2Runtime


class ChatAquila2(Aquila2Settings, Batches):
    """Aquila2 as a LangChain chat model, in this process.

    Args:
        model: A released name, ``owner/name`` or a directory; ``AQUILA2_MODEL`` by default.
            ``model_name`` is another word for it.
        temperature: 0.7 by default; 0 is greedy.
        top_p: 0.9 by default.
        max_tokens: None (the default) is what is left of the context, at most 1024. With ``fit``
            a conversation is shortened until a quarter of the context, or 1024 tokens if that is
            less, is left.
        timeout: Seconds one request may take.
        streaming: Whether ``invoke`` takes the streaming path.
        **others: The fields of ``SamplingParams``, the options of ``Aquila2Runtime.load`` and
            ``adapter``, ``fit``, ``cache_salt``. ``api_key`` and ``max_retries``, which LangChain
            passes to any model, are accepted without effect and not stored.

    Raises:
        UnknownParameterError: A keyword does not exist.
        InvalidRequestError: A value is wrong.

    Example:
        >>> chat = ChatAquila2(model="aquila2-demo", temperature=0)
        >>> chat.invoke("Hello!").usage_metadata["input_tokens"] > 0
        True
    """

    @model_validator(mode="after")
    def _set_aquila2_chat_version(self) -> Self:
        self._add_version("aquila2", VERSION)
        return self

    # Generation

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with translating():
            request = self._request(stop, kwargs)
            turns = to_runtime_messages(messages)
            runtime = request.lease.runtime()
            return _result(runtime, runtime.chat(turns, request.params, **request.options))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with translating():
            request = self._request(stop, kwargs)
            turns = to_runtime_messages(messages)
            runtime = await asyncio.to_thread(request.lease.runtime)
            return _result(runtime, await runtime.achat(turns, request.params, **request.options))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with translating():
            request = self._request(stop, kwargs)
            turns = to_runtime_messages(messages)
            runtime = request.lease.runtime()
            deltas = runtime.stream_chat(turns, request.params, **request.options)
            with contextlib.closing(deltas):
                for delta in deltas:
                    yield _chunk(runtime, delta)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with translating():
            request = self._request(stop, kwargs)
            turns = to_runtime_messages(messages)
            runtime = await asyncio.to_thread(request.lease.runtime)
            deltas = runtime.astream_chat(turns, request.params, **request.options)
            async with contextlib.aclosing(deltas):
                async for delta in deltas:
                    yield _chunk(runtime, delta)

    # Counting

    def get_token_ids(self, text: str) -> list[int]:
        """Return a text's ids under the checkpoint's own tokenizer; loads it if need be."""
        with translating():
            return self._lease.runtime().tokenizer.encode_ordinary(text)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Count the exact prompt of a conversation, template included.

        Raises:
            InvalidPromptError: Tools are given; this model takes none.
        """
        with translating():
            if tools:
                raise InvalidPromptError("Aquila2 takes no tools.", parameter="tools")
            turns = to_runtime_messages(messages)
            return len(self._lease.runtime().render(turns))

    # Identity

    @property
    def _llm_type(self) -> str:
        return "aquila2-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return self._identity()

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        # Our own, not the serialized form: that leaves out a wrapped runtime's identity.
        return repr(
            sorted({**self._identity(), "call": sorted(kwargs.items()), "until": stop}.items())
        )

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = LangSmithParams(
            ls_provider="aquila2",
            ls_model_name=kwargs.get("model") or self.model,
            ls_model_type="chat",
            ls_temperature=kwargs.get("temperature", self.temperature),
        )
        if (limit := kwargs.get("max_tokens", self.max_tokens)) is not None:
            params["ls_max_tokens"] = limit
        own = [self.stop] if isinstance(self.stop, str) else self.stop or []
        # What is no list of stops is refused where the request is checked, not while it is traced.
        if stops := [*own, *(stop if isinstance(stop, (list, tuple)) else ())]:
            params["ls_stop"] = stops
        return params

    def _resolve_model_profile(self) -> ModelProfile | None:
        # Only what holds for every checkpoint: the constructor reads no files.
        return ModelProfile(
            text_inputs=True,
            text_outputs=True,
            image_inputs=False,
            audio_inputs=False,
            video_inputs=False,
            pdf_inputs=False,
            tool_calling=False,
            structured_output=False,
        )

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Whether ``dumpd`` keeps the constructor's arguments: yes, and no weights or secrets."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where ``load`` finds the class."""
        return ["langchain_aquila2", "chat_models"]

    def to_json(self) -> Any:
        """Return the constructor's arguments; a wrapped runtime cannot be written down."""
        return super().to_json() if self.runtime is None else self.to_json_not_implemented()


def _result(runtime: Aquila2Runtime, output: RequestOutput) -> ChatResult:
    generations = []
    for choice in output.choices:
        metadata = ending(
            model=output.model,
            template=runtime.info.template,
            reason=choice.finish_reason,
            stop_reason=choice.stop_reason,
            timings=output.timings,
            notices=output.notices,
        )
        if choice.logprobs is not None:
            metadata["logprobs"] = openai_logprobs(choice.logprobs)
        message = AIMessage(
            content=choice.text,
            response_metadata=metadata,
            # The counts are of all answers together, so one of them carries them.
            usage_metadata=usage_metadata(output.usage) if choice.index == 0 else None,
        )
        info = {"finish_reason": choice.finish_reason.value}
        generations.append(ChatGeneration(message=message, generation_info=info))
    return ChatResult(generations=generations, llm_output={"model_name": output.model})


def _chunk(runtime: Aquila2Runtime, delta: Delta) -> ChatGenerationChunk:
    message = AIMessageChunk(content=delta.text)
    if delta.logprobs is not None:
        message.response_metadata["logprobs"] = openai_logprobs(delta.logprobs)
    if delta.finish_reason is not None:
        info = runtime.info
        message.response_metadata |= ending(
            model=info.model,
            template=info.template,
            reason=delta.finish_reason,
            stop_reason=delta.stop_reason,
            timings=delta.timings,
            notices=delta.notices,
        )
        message.usage_metadata = None if delta.usage is None else usage_metadata(delta.usage)
        message.chunk_position = "last"
    return ChatGenerationChunk(message=message)
