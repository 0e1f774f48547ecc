"""The context: what an answer gets of it when nobody says, and prompts shortened on request."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core import exceptions as core
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    trim_messages,
)

from aquila2_runtime import Aquila2Runtime, Message
from langchain_aquila2 import Aquila2LLM, ChatAquila2, _settings
from langchain_aquila2._messages import to_runtime_messages
from tests.langchain.support import MakeChat

ENGLISH = "The harbour office moved to the third floor in March. "


# Small, so that an answer that fills the rest is short.
LENGTH = 256


@pytest.fixture
def small(make_chat: MakeChat) -> MakeChat:
    """Make models of a small context, over the weights of ``demo_runtime``."""

    def make(**fields: Any) -> ChatAquila2:
        return make_chat(max_model_len=LENGTH, ignore_eos=True, **fields)

    return make


def almost_full(runtime: Aquila2Runtime, spare: int) -> str:
    """A text whose rendered prompt leaves so many tokens of the context."""
    target = LENGTH - spare

    def tokens(text: str) -> int:
        return len(runtime.render([Message("user", text)]))

    text = ENGLISH * ((target - tokens("")) // runtime.count_tokens(ENGLISH) - 1)
    while tokens(text) < target:
        text += "1," if len(text) % 2 else ",1"
        text = text if tokens(text) <= target else text[:-1]
    assert tokens(text) == target
    return text


def test_without_fit_an_answer_gets_what_is_left(
    small: MakeChat, demo_runtime: Aquila2Runtime
) -> None:
    """P9."""
    text = almost_full(demo_runtime, 5)
    answer = small().invoke(text)
    assert answer.usage_metadata["output_tokens"] == 5
    assert answer.response_metadata["finish_reason"] == "length"
    assert answer.response_metadata["notices"] == []


def test_without_max_tokens_an_answer_ends_at_the_default(
    small: MakeChat, spec: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9: and min_tokens raises it."""
    monkeypatch.setattr(_settings, "DEFAULT_MAX_TOKENS", 20)
    assert small().invoke("Hi").usage_metadata["output_tokens"] == 20
    assert small().invoke("Hi", min_tokens=22).usage_metadata["output_tokens"] == 22
    assert small().invoke("Hi", max_tokens=23).usage_metadata["output_tokens"] == 23
    llm = Aquila2LLM(**spec, temperature=0, ignore_eos=True)
    assert llm.generate(["Once"]).llm_output["token_usage"]["completion_tokens"] == 20


@pytest.mark.parametrize("way", ["invoke", "stream"])
@pytest.mark.parametrize("spare", [-30, 1, 5, 40])
def test_with_fit_a_prompt_is_shortened_until_the_answer_has_room(
    small: MakeChat, demo_runtime: Aquila2Runtime, spare: int, way: str
) -> None:
    """P8, P9: a prompt just below the limit once stayed whole and got one token."""
    text = almost_full(demo_runtime, max(spare, 1)) + ENGLISH * (max(-spare, 0) // 10)
    chat = small(fit="middle")
    answer = getattr(chat, way)(text)
    if way == "stream":
        chunks = list(answer)
        answer = chunks[0]
        for chunk in chunks[1:]:
            answer += chunk
    assert answer.usage_metadata["output_tokens"] == LENGTH // 4
    assert LENGTH * 3 // 4 - 8 <= answer.usage_metadata["input_tokens"] <= LENGTH * 3 // 4
    assert len(answer.response_metadata["notices"]) == 1


def test_with_fit_what_leaves_room_already_stays_whole(
    small: MakeChat, demo_runtime: Aquila2Runtime
) -> None:
    text = almost_full(demo_runtime, LENGTH // 4)
    answer = small(fit="middle").invoke(text)
    assert answer.usage_metadata["output_tokens"] == LENGTH // 4
    assert answer.response_metadata["notices"] == []


def conversation(last: str) -> list[BaseMessage]:
    turns: list[BaseMessage] = []
    for number in range(10):
        turns += [HumanMessage(f"Note {number}: " + "word " * 20), AIMessage("OK.")]
    return [*turns, HumanMessage(last)]


def test_oldest_turns_make_room_for_the_default_answer(
    small: MakeChat, demo_runtime: Aquila2Runtime
) -> None:
    """P8, P9."""
    answer = small(fit="drop_oldest").invoke(conversation("Hello!"))
    assert LENGTH // 4 <= answer.usage_metadata["output_tokens"] < LENGTH - 20
    assert "drop_oldest" in answer.response_metadata["notices"][0]


def test_a_question_that_fills_the_context_gets_what_is_left_even_with_fit(
    small: MakeChat, demo_runtime: Aquila2Runtime
) -> None:
    """P9: the default length, which nobody asked for, is no reason to refuse it."""
    question = almost_full(demo_runtime, 7)
    chat = small(fit="drop_oldest")
    answer = chat.invoke(conversation(question))
    assert answer.usage_metadata["output_tokens"] == 7
    with pytest.raises(core.ContextOverflowError) as caught:
        chat.invoke(conversation(question), max_tokens=100)
    assert caught.value.max_tokens == 100


def test_a_prompt_is_tokenized_once(chat: ChatAquila2, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its length was once counted by the adapter, too, at the price of the whole prompt."""
    calls: list[object] = []
    tokenizer = chat.warmup()._lease.runtime().tokenizer
    encode = tokenizer.encode_parts
    monkeypatch.setattr(tokenizer, "encode_parts", lambda parts: calls.append(1) or encode(parts))
    chat.invoke("Hello!", max_tokens=None)
    assert len(calls) == 1


def test_trim_messages_takes_part_of_a_message(chat: ChatAquila2) -> None:
    """It counts lists of no messages on its way, which are no tokens."""
    assert chat.get_num_tokens_from_messages([]) == 0
    lines = HumanMessage("".join(f"Line {number}\n" for number in range(9)))
    limit = chat.get_num_tokens_from_messages([lines]) - 10
    kept = trim_messages(
        [lines], max_tokens=limit, token_counter=chat, strategy="first", allow_partial=True
    )
    [part] = kept
    assert lines.text.startswith(part.text)
    assert 0 < len(part.text) < len(lines.text)


@pytest.mark.parametrize("kind", [ChatAquila2, Aquila2LLM])
def test_a_caller_s_own_token_ids_are_taken(kind: Any) -> None:
    """Nothing is loaded for them."""
    model = kind(model="nowhere", custom_get_token_ids=lambda text: [*text.encode()])
    assert model.get_token_ids("hi") == [104, 105]
    assert model.get_num_tokens("hi") == 2


@pytest.mark.parametrize("kind", [ChatAquila2, Aquila2LLM])
def test_a_warmup_that_fails_raises_an_error_of_both_kinds(kind: Any) -> None:
    with pytest.raises(core.ModelNotFoundError):
        kind(model="./no-such-directory").warmup()


def test_a_system_message_that_comes_late_moves_to_the_front_and_a_notice_says_so(
    chat: ChatAquila2, demo_runtime: Aquila2Runtime
) -> None:
    brief, kind = SystemMessage("Be brief."), SystemMessage("Be kind.")
    early = [brief, kind, HumanMessage("Hi")]
    rendered = demo_runtime.render(
        [Message("system", "Be brief.\n\nBe kind."), Message("user", "Hi")]
    )
    for messages, notices in ((early, 0), ([brief, HumanMessage("Hi"), kind], 1)):
        answer = chat.invoke(messages)
        assert answer.usage_metadata["input_tokens"] == len(rendered)
        assert chat.get_num_tokens_from_messages(messages) == len(rendered)
        found = [one for one in answer.response_metadata["notices"] if "moved to the front" in one]
        assert len(found) == notices


def test_an_empty_system_message_replaces_the_template_s_own(
    chat: ChatAquila2, demo_runtime: Aquila2Runtime
) -> None:
    """It was dropped, and the template's default stood in the prompt."""
    hi = HumanMessage("Hi")
    bare = demo_runtime.render([Message("system", ""), Message("user", "Hi")])
    assert chat.get_num_tokens_from_messages([SystemMessage(""), hi]) == len(bare)
    assert to_runtime_messages([SystemMessage(""), hi])[0] == Message("system", "")
    both = [SystemMessage(""), SystemMessage("Be brief."), hi]
    assert to_runtime_messages(both)[0] == Message("system", "Be brief.")
