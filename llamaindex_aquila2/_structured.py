"""Structured: LlamaIndex's four methods that answer with objects. It knows no schema, no runtime.

LlamaIndex's own show the model a schema with doubled braces, leave an output parser on the
caller's prompt and parse whatever comes. These hold the answer to the schema. A
``pydantic_program_mode`` other than DEFAULT is the caller's wish for LlamaIndex's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.types import Model, PydanticProgramMode
from llama_index_instrumentation import get_dispatcher

from aquila2_runtime import InvalidRequestError
from aquila2_runtime.begun import begun
from aquila2_runtime.shown import shown
from llamaindex_aquila2._function_calling import FunctionCalling
from llamaindex_aquila2._objects import ObjectRequest, ObjectStream

if TYPE_CHECKING:
    from llama_index.core.program.utils import FlexibleModel
    from llama_index.core.prompts import PromptTemplate

dispatcher = get_dispatcher(__name__)

# LlamaIndex's programs take these out of llm_kwargs; an object is asked for without tools.
_OF_PROGRAMS: Final = frozenset({"tool_required", "tool_choice", "allow_parallel_tool_calls"})


class Structured(FunctionCalling):
    """What LlamaIndex asks of a model that answers with objects."""

    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Answer with an object of a pydantic class.

        Args:
            output_cls: The class.
            prompt: The question; not changed. The form is named behind it.
            llm_kwargs: Keywords of ``chat``.
            **prompt_args: What the prompt is filled with.

        Raises:
            InvalidRequestError: The class is none, or its shortest object exceeds ``max_tokens``.
                The constructor's is less where a long prompt leaves less.
            MissingDependencyError: llguidance is not installed.
            ValidationError: A validator of the class, written in Python, refuses the object.
        """
        if not self._constrains():
            own = super().structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return cast("Model", own)
        request, messages, kwargs = self._request(output_cls, prompt, llm_kwargs, prompt_args)
        return _finished(request, self.chat(messages, **kwargs))

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Answer with an object without blocking the event loop; see ``structured_predict``."""
        if not self._constrains():
            own = await super().astructured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return cast("Model", own)
        request, messages, kwargs = self._request(output_cls, prompt, llm_kwargs, prompt_args)
        return _finished(request, await self.achat(messages, **kwargs))

    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | FlexibleModel, None, None]:
        """Answer with an object while it is written; the last one is whole.

        Args:
            output_cls: The class. Earlier objects are of it where it accepts them, else of a
                class with the same members, none of them required.
            prompt: See ``structured_predict``; the rest too.
            llm_kwargs: Keywords of ``chat``.
            **prompt_args: What the prompt is filled with.
        """
        if not self._constrains():
            return super().stream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
        request, messages, kwargs = self._request(output_cls, prompt, llm_kwargs, prompt_args)
        chunks = self.stream_chat(messages, **kwargs)

        def generate() -> Generator[Model | FlexibleModel, None, None]:
            stream, last = ObjectStream(output_cls), ChatResponse(message=ChatMessage())
            with contextlib.closing(chunks):
                for last in chunks:
                    found = stream.add(last.message.content or "")
                    if found is not None:
                        yield _going_on(found)
            yield _finished(request, last)

        return begun(generate())

    async def astream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | FlexibleModel, None]:
        """Return an async generator of the object; see ``stream_structured_predict``."""
        if not self._constrains():
            return await super().astream_structured_predict(
                output_cls, prompt, llm_kwargs, **prompt_args
            )
        request, messages, kwargs = self._request(output_cls, prompt, llm_kwargs, prompt_args)
        chunks = await self.astream_chat(messages, **kwargs)

        async def generate() -> AsyncGenerator[Model | FlexibleModel, None]:
            stream, last = ObjectStream(output_cls), ChatResponse(message=ChatMessage())
            async with contextlib.aclosing(chunks):
                async for last in chunks:
                    found = stream.add(last.message.content or "")
                    if found is not None:
                        yield _going_on(found)
            yield _finished(request, last)

        return generate()

    def _constrains(self) -> bool:
        return self.pydantic_program_mode == PydanticProgramMode.DEFAULT

    def _request(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None,
        prompt_args: dict[str, Any],
    ) -> tuple[ObjectRequest[Model], list[ChatMessage], dict[str, Any]]:
        """Check the class, fill the prompt; the system prompt goes before it."""
        request = ObjectRequest(output_cls)
        kwargs = _checked(prompt, llm_kwargs)
        dispatcher.event(
            LLMStructuredPredictStartEvent(
                output_cls=output_cls, template=prompt, template_args=prompt_args
            )
        )
        messages = request.messages(self._get_messages(prompt, **prompt_args))
        # A query engine fills its prompt up to max_tokens before the form is named behind it, and
        # takes a refusal for an empty answer: the constructor's limit gives way, a call's does not.
        kwargs = {"answer_limit": self.max_tokens, **kwargs, "constraint": request.constraint}
        return request, messages, kwargs


def _checked(prompt: object, llm_kwargs: object) -> dict[str, Any]:
    """The keywords of the call.

    Raises:
        InvalidRequestError: Prompt or keywords are none, or an answer would be held to two forms.
    """
    if not isinstance(prompt, BasePromptTemplate):
        _fail("prompt", prompt, "a LlamaIndex prompt, such as PromptTemplate(text)")
    if llm_kwargs is not None and not isinstance(llm_kwargs, dict):
        _fail("llm_kwargs", llm_kwargs, "a dictionary or None")
    if llm_kwargs and llm_kwargs.get("constraint") is not None:
        _fail("constraint", llm_kwargs["constraint"], "left out: the class is what is asked for")
    return {name: value for name, value in (llm_kwargs or {}).items() if name not in _OF_PROGRAMS}


def _fail(name: str, value: object, allowed: str) -> NoReturn:
    raise InvalidRequestError(
        f"{name}={shown(value)} is not valid; it must be {allowed}.", parameter=name, value=value
    )


def _going_on(found: Model | FlexibleModel) -> Model | FlexibleModel:
    dispatcher.event(LLMStructuredPredictInProgressEvent(output=found))
    return found


def _finished(request: ObjectRequest[Model], response: ChatResponse) -> Model:
    found = request.read(response)
    dispatcher.event(LLMStructuredPredictEndEvent(output=found))
    return found
