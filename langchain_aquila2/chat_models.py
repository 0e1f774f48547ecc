"""ChatAquila2: Aquila2 as a LangChain chat model. It knows no tokens, tensors or templates."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import LangSmithParams, ModelProfile
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import model_validator

from aquila2_runtime.instructions import with_instruction
from aquila2_runtime.openai_tools import runtime_tools
from aquila2_runtime.request_options import RequestOptions
from langchain_aquila2._batches import Batches
from langchain_aquila2._binding import Binding
from langchain_aquila2._calls import check_flag, spelled_out
from langchain_aquila2._demand import KEYWORDS, demand_of
from langchain_aquila2._messages import to_runtime_messages
from langchain_aquila2._profile import TOLD, is_made, profile_of
from langchain_aquila2._results import Chunks, chat_result, joined_output
from langchain_aquila2._settings import (
    DEFAULT_MAX_TOKENS,
    VERSION,
    Aquila2Settings,
    Request,
)
from langchain_aquila2._tools import openai_tools
from langchain_aquila2.errors import translating

if TYPE_CHECKING:
    from typing import Self

    from aquila2_runtime import Message, RuntimeLease


class ChatAquila2(Aquila2Settings, Binding, Batches):
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
        streaming: Whether ``invoke`` takes the streaming path; None (the default) where a callback
            wants tokens.
        stream_usage: Whether the last chunk of a stream carries the token counts.
        function_calling: What the profile says of ``tool_calling``: whether this checkpoint was
            trained for tools. Aquila2 was not; tools work either way.
        **others: The fields of ``SamplingParams``, the options of ``Aquila2Runtime.load`` and
            ``adapter``, ``fit``, ``cache_salt``. ``api_key`` and ``max_retries``, which LangChain
            passes to any model, are accepted without effect and not stored. With
            ``engine="openai"`` the server's key is read from ``AQUILA2_REMOTE_API_KEY``, and
            ``api_key`` is refused.

    Raises:
        UnknownParameterError: A keyword does not exist.
        InvalidRequestError: A value is wrong.

    Example:
        >>> chat = ChatAquila2(model="aquila2-demo", temperature=0)
        >>> chat.invoke("Hello!").usage_metadata["input_tokens"] > 0
        True
    """

    function_calling: bool = False
    stream_usage: bool = True

    _call_keywords: ClassVar[frozenset[str]] = KEYWORDS | {"stream_usage", "stream"}

    @model_validator(mode="after")
    def _set_aquila2_chat_version(self) -> Self:
        self._add_version("aquila2", VERSION)
        return self

    @classmethod
    def _checked(cls, given: dict[str, Any]) -> RuntimeLease:
        if is_made(given.get("profile")):
            del given["profile"]  # of the model that this one is made of
        return super()._checked(given)

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign a field; the profile follows, unless the caller gave one."""
        super().__setattr__(name, value)
        if name in TOLD and is_made(self.profile):
            self.profile = self._resolve_model_profile()

    # Generation

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with translating():
            request, turns = self._ask(messages, stop, kwargs)
            runtime = request.lease.runtime()
            output = runtime.chat(turns, request.params, **request.options)
            return chat_result(runtime, output)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with translating():
            request, turns = self._ask(messages, stop, kwargs)
            runtime = await request.lease.aruntime()
            output = await runtime.achat(turns, request.params, **request.options)
            return chat_result(runtime, output)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with translating():
            request, turns = self._ask(messages, stop, kwargs)
            runtime = request.lease.runtime()
            chunks = Chunks(runtime, stream_usage=self._streams_usage(kwargs))
            deltas = runtime.stream_chat(turns, request.params, **request.options)
            with contextlib.closing(deltas):
                for delta in deltas:
                    yield from chunks.of(delta)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with translating():
            request, turns = self._ask(messages, stop, kwargs)
            runtime = await request.lease.aruntime()
            chunks = Chunks(runtime, stream_usage=self._streams_usage(kwargs))
            deltas = runtime.astream_chat(turns, request.params, **request.options)
            async with contextlib.aclosing(deltas):
                async for delta in deltas:
                    for chunk in chunks.of(delta):
                        yield chunk

    def _ask(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> tuple[Request, list[Message]]:
        """A call's request and prompt, checked before anything is loaded."""
        request = self._request(stop, kwargs)
        if kwargs.get("stream") is not None:
            check_flag("stream", kwargs["stream"])  # heeded by LangChain, which passes it on
        demand = demand_of(kwargs)
        if demand.sampling:
            request = request._replace(params=request.params.replace(**demand.sampling))
        if demand.options:
            RequestOptions(**demand.options)
            request = request._replace(options={**request.options, **demand.options})
        return request, with_instruction(to_runtime_messages(messages), demand.instruction)

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return joined_output(llm_outputs)

    def _streams_usage(self, kwargs: dict[str, Any]) -> bool:
        return check_flag("stream_usage", kwargs.get("stream_usage", self.stream_usage))

    # Counting

    def get_token_ids(self, text: str) -> list[int]:
        """Return a text's ids, of the checkpoint's own tokenizer unless the caller gave one.

        Loads the checkpoint if need be.
        """
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        with translating():
            return self._lease.runtime().tokenizer.encode_ordinary(text)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Count the exact prompt of a conversation, template and tools included.

        No messages are no tokens: ``trim_messages`` asks for that while it looks for what fits.
        """
        if not messages:
            return 0
        with translating():
            shown = runtime_tools(openai_tools(tools or []))
            turns = to_runtime_messages(messages)
            return len(self._lease.runtime().render(turns, tools=shown))

    # Identity

    @property
    def _llm_type(self) -> str:
        return "aquila2-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return self._identity()

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        # Our own, not the serialized form: that leaves out a wrapped runtime's identity.
        with translating():
            # How an answer is fetched says nothing of it.
            told = {name: kwargs[name] for name in kwargs.keys() - {"stream"}}
            call = sorted(spelled_out(told).items())
        said = {"call": call, "until": stop, "output_version": self.output_version}
        return repr(sorted({**self._identity(), **said}.items()))

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = LangSmithParams(
            ls_provider="aquila2",
            ls_model_name=kwargs.get("model") or kwargs.get("model_name") or self.model,
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
        length = self.max_model_len
        if length is None and self.runtime is not None:
            length = self.runtime.info.max_model_len
        return profile_of(
            max_model_len=length,
            max_output_tokens=self.max_tokens or DEFAULT_MAX_TOKENS,
            function_calling=self.function_calling,
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
