"""Prompts made by the caller's own functions, and calls that are wrong before anything loads."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage

from aquila2_runtime import InvalidPromptError, InvalidRequestError, RequestTimeoutError
from llamaindex_aquila2 import Aquila2
from tests.llamaindex.support import ENDPOINTS, QUESTION, MakeLLM, ask


class Unspeakable:
    """A value whose repr raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    "made", [None, 5, b"bytes", "", ["a"], [ChatMessage("a")], Unspeakable()], ids=lambda v: type(v)
)
def test_a_function_that_makes_no_prompt_is_named(endpoint: str, made: Any) -> None:
    """E16, P10: before the weights load, in every endpoint alike."""
    llm = Aquila2(
        "AquilaChat2-7B",
        is_chat_model=True,
        completion_to_prompt=lambda prompt: made,
        messages_to_prompt=lambda messages: made,
    )
    function = "messages_to_prompt" if "chat" in endpoint else "completion_to_prompt"
    with pytest.raises(InvalidPromptError, match=f"{function} returned") as caught:
        ask(llm, endpoint)
    assert caught.value.parameter == function
    assert not llm._lease.loaded


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_what_such_a_function_raises_is_the_caller_s_own(endpoint: str) -> None:
    def broken(given: object) -> str:
        raise ZeroDivisionError

    llm = Aquila2("AquilaChat2-7B", completion_to_prompt=broken, messages_to_prompt=broken)
    with pytest.raises(ZeroDivisionError):
        ask(llm, endpoint)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    "given",
    [
        {"timeout": -1},
        {"timeout": "x"},
        {"fit": "x"},
        {"fit": ["middle"]},
        {"cache_salt": 5},
        {"cache_salt": Unspeakable()},
        {"adapter": "none-such"},
    ],
    ids=lambda given: next(iter(given)),
)
def test_a_wrong_request_option_of_a_call_is_refused_before_anything_loads(
    endpoint: str, given: dict[str, Any]
) -> None:
    """S1."""
    llm = Aquila2("AquilaChat2-7B")
    with pytest.raises(InvalidRequestError) as caught:
        ask(llm, endpoint, **given)
    assert caught.value.parameter == next(iter(given))
    assert not llm._lease.loaded


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_call_that_times_out_before_its_first_token_raises(
    make_llm: MakeLLM, endpoint: str
) -> None:
    """C10, A8: an error and no empty answer, in every endpoint, streamed too."""
    with pytest.raises(RequestTimeoutError) as caught:
        ask(make_llm(timeout=1e-9), endpoint, QUESTION)
    assert isinstance(caught.value, TimeoutError)
