"""Decorators of the endpoints: LlamaIndex's event pair, and before it the one check it needs.

LlamaIndex puts the arguments into an event before it calls the endpoint, and a wrong type fails
there with an error about the event. It knows no runtime.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeVar, cast

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

from aquila2_runtime.begun import begun
from llamaindex_aquila2._messages import check_conversation, check_text

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def chat_endpoint(function: Endpoint) -> Endpoint:
    """Fire one pair of chat events per call; refuse what is no conversation before them."""
    observed: Callable[..., Any] = llm_chat_callback()(function)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def checked_async(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
            check_conversation(messages)
            return await cast(Awaitable[Any], observed(self, messages, **kwargs))

        return cast(Endpoint, _plain(checked_async))

    @functools.wraps(function)
    def checked(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        check_conversation(messages)
        return _begun(observed(self, messages, **kwargs))

    return cast(Endpoint, _plain(checked))


def completion_endpoint(function: Endpoint) -> Endpoint:
    """Fire one pair of completion events per call; refuse what is no text before them."""
    observed: Callable[..., Any] = llm_completion_callback()(function)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def checked_async(self: Any, prompt: str, *args: Any, **kwargs: Any) -> Any:
            check_text(prompt)
            return await cast(Awaitable[Any], observed(self, prompt, *args, **kwargs))

        return cast(Endpoint, _plain(checked_async))

    @functools.wraps(function)
    def checked(self: Any, prompt: str, *args: Any, **kwargs: Any) -> Any:
        check_text(prompt)
        return _begun(observed(self, prompt, *args, **kwargs))

    return cast(Endpoint, _plain(checked))


def _begun(answer: Any) -> Any:
    """LlamaIndex's generator, which fires the events, in one that ends the work when closed."""
    return begun(answer) if isinstance(answer, Generator) else answer


def _plain(wrapper: Any) -> Any:
    """Forget the wrapped function: LlamaIndex left ``__wrapped__ = True`` on it, which misleads."""
    del wrapper.__wrapped__
    return wrapper
