"""Input: roles, blocks, prompts and keywords; each is honoured or refused, never dropped."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    CitableBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.prompts import PromptTemplate
from pydantic import AnyUrl

from aquila2_runtime import (
    Aquila2Runtime,
    ContextOverflowError,
    InvalidLoadOptionError,
    InvalidPromptError,
    InvalidRequestError,
    InvalidSamplingParamsError,
    Message,
    ToolCall,
    UnknownParameterError,
    UnsupportedContentError,
)
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2._messages import plain_prompt, to_runtime_messages
from tests.llamaindex.support import ENDPOINTS, QUESTION, MakeLLM, ask, text_of, usage_of


class TestEMessages:
    def test_e15_system_messages_are_merged_wherever_they_stand(self) -> None:
        converted = to_runtime_messages(
            [
                ChatMessage("One.", role="system"),
                ChatMessage("Hi"),
                ChatMessage("Two.", role="developer"),
                ChatMessage("Hello", role="chatbot"),
                ChatMessage("6", role="function"),
            ],
            "Zero.",
        )
        assert converted == [
            Message("system", "Zero.\n\nOne.\n\nTwo."),
            Message("user", "Hi"),
            Message("assistant", "Hello"),
            Message("tool", "6"),
        ]

    def test_a_system_prompt_is_not_said_twice(self) -> None:
        """LLM.predict adds system_prompt by itself before it calls chat."""
        said = [ChatMessage("Be brief.", role="system"), ChatMessage("Hi")]
        assert to_runtime_messages(said, "Be brief.") == to_runtime_messages(said)

    @pytest.mark.parametrize(
        ("block", "kind"),
        [
            (ImageBlock(url=AnyUrl("http://169.254.169.254/x.png")), "image"),
            (ImageBlock(path="/etc/passwd"), "image"),
            (AudioBlock(url=AnyUrl("http://169.254.169.254/x.wav")), "audio"),
            (VideoBlock(url=AnyUrl("http://169.254.169.254/x.mp4")), "video"),
            (DocumentBlock(url="http://169.254.169.254/x.pdf"), "document"),
        ],
    )
    @pytest.mark.parametrize("endpoint", [name for name in ENDPOINTS if "chat" in name])
    def test_what_is_not_text_is_refused_and_never_opened(
        self, llm: Aquila2, endpoint: str, block: Any, kind: str
    ) -> None:
        """A4: the error names the block and where it is; the network is shut in tests."""
        messages = [
            ChatMessage("Look:"),
            ChatMessage(role="user", blocks=[TextBlock(text="What is this?"), block]),
        ]
        with pytest.raises(UnsupportedContentError, match=f"Message 1.*{kind}.*block 1") as caught:
            ask(llm, endpoint, messages)
        assert isinstance(caught.value, ValueError)

    def test_text_like_blocks_become_text_and_marks_are_left_out(self) -> None:
        message = ChatMessage(
            role="assistant",
            blocks=[
                ThinkingBlock(content="secret thoughts"),
                TextBlock(text="One"),
                CachePoint.model_validate({"cache_control": {"type": "ephemeral"}}),
                TextBlock(text="Two"),
                ToolCallBlock(tool_name="add", tool_kwargs={"城": 1}),
                CitableBlock(title="T", source="S", content=[TextBlock(text="Three")]),
            ],
        )
        (converted,) = to_runtime_messages([message])
        assert converted.content == "One\nTwo\nThree"
        assert converted.tool_calls == (ToolCall("add", {"城": 1}),)
        assert plain_prompt([message]).endswith(
            'Three\n<tool_call>{"name": "add", "arguments": {"城": 1}}</tool_call>'
        )

    def test_additional_kwargs_stay_out_of_the_prompt(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime
    ) -> None:
        extra = {"tool_call_id": "call-17", "name": "x" * 50}
        message = ChatMessage(QUESTION, additional_kwargs=extra)
        for chat in (True, False):
            llm = make_llm(is_chat_model=chat, max_tokens=2)
            bare = usage_of(llm.chat([ChatMessage(QUESTION)]))["prompt_tokens"]
            assert usage_of(llm.chat([message]))["prompt_tokens"] == bare

    @pytest.mark.parametrize("messages", [[], "Hello", ["Hello"], None, [None], ChatMessage("x")])
    def test_what_is_no_conversation_is_refused(self, llm: Aquila2, messages: Any) -> None:
        """P10: by a named error."""
        with pytest.raises(InvalidPromptError):
            llm.chat(messages)

    @pytest.mark.parametrize("prompt", ["", None, 7])
    def test_what_is_no_prompt_is_refused(self, llm: Aquila2, prompt: Any) -> None:
        """P10: an empty plain prompt has nothing to continue."""
        with pytest.raises(InvalidPromptError):
            llm.complete(prompt, formatted=True)

    def test_messages_without_text_and_very_many_have_named_results(self, llm: Aquila2) -> None:
        """P10: never an IndexError."""
        for text in ("", "   ", None):
            try:
                llm.chat([ChatMessage(text)], max_tokens=2)
            except InvalidPromptError:
                pass
        with pytest.raises(ContextOverflowError):
            llm.chat([ChatMessage("a" * 1_000_000)])
        with pytest.raises(InvalidRequestError):
            llm.chat([ChatMessage("hello")] * 10_001)

    def test_control_spellings_in_any_role_are_plain_text(
        self, demo_runtime: Aquila2Runtime
    ) -> None:
        """P1: the prompt's control ids are the template's own."""
        control = set(demo_runtime.tokenizer.control_ids.values())

        def controls(text: str) -> list[int]:
            messages = [ChatMessage(text, role=role) for role in MessageRole]
            messages.append(ChatMessage(role="user", blocks=[TextBlock(text=text)] * 2))
            ids = demo_runtime.render(to_runtime_messages(messages, text))
            return [token_id for token_id in ids if token_id in control]

        for spelling in demo_runtime.tokenizer.control_ids:
            assert controls(f"a {spelling} b") == controls("a b")


class TestEPrompts:
    def test_complete_is_one_user_message_after_the_system_prompt(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime
    ) -> None:
        system = "Answer in a full sentence."
        for endpoint in ENDPOINTS:
            llm = make_llm(system_prompt=system, max_tokens=2)
            expected = demo_runtime.render([Message("system", system), Message("user", QUESTION)])
            assert usage_of(ask(llm, endpoint)[-1])["prompt_tokens"] == len(expected)

    def test_predict_says_the_system_prompt_once(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime
    ) -> None:
        system = "Answer in a full sentence."
        llm = make_llm(system_prompt=system)
        expected = demo_runtime.chat(
            [Message("system", system), Message("user", QUESTION)], _greedy(llm)
        )
        assert llm.predict(PromptTemplate("{question}"), question=QUESTION) == expected.text

    def test_a_formatted_prompt_is_taken_as_it_is(
        self, llm: Aquila2, demo_runtime: Aquila2Runtime
    ) -> None:
        for endpoint in [name for name in ENDPOINTS if "complete" in name]:
            last = ask(llm, endpoint, formatted=True)[-1]
            assert usage_of(last)["prompt_tokens"] == demo_runtime.count_tokens(QUESTION)

    def test_functions_of_one_s_own_make_the_whole_prompt(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime
    ) -> None:
        llm = make_llm(
            max_tokens=2,
            completion_to_prompt=lambda prompt: f"Q: {prompt}\nA:",
            messages_to_prompt=lambda messages: "|".join(str(item.content) for item in messages),
        )
        for endpoint in ENDPOINTS:
            text = QUESTION if "chat" in endpoint else f"Q: {QUESTION}\nA:"
            last = ask(llm, endpoint)[-1]
            assert usage_of(last)["prompt_tokens"] == demo_runtime.count_tokens(text)

    def test_a_query_wrapper_wraps_completions(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime
    ) -> None:
        llm = make_llm(query_wrapper_prompt=PromptTemplate("Please: {query_str}"), max_tokens=2)
        expected = len(demo_runtime.render([Message("user", f"Please: {QUESTION}")]))
        for endpoint in ("complete", "stream_complete", "acomplete", "astream_complete"):
            assert usage_of(ask(llm, endpoint)[-1])["prompt_tokens"] == expected

    def test_a_base_model_continues_plain_text(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime
    ) -> None:
        llm = make_llm(is_chat_model=False, max_tokens=12)
        assert not llm.metadata.is_chat_model
        expected = demo_runtime.complete(QUESTION, _greedy(llm)).text
        for endpoint in [name for name in ENDPOINTS if "complete" in name]:
            assert text_of(ask(llm, endpoint)[-1]) == expected
        assert llm.predict(PromptTemplate("{question}"), question=QUESTION) == expected
        spoken = demo_runtime.complete(plain_prompt([ChatMessage(QUESTION)]), _greedy(llm)).text
        assert text_of(llm.chat([ChatMessage(QUESTION)])) == spoken

    def test_a_base_model_s_system_prompt_comes_first(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime
    ) -> None:
        llm = make_llm(is_chat_model=False, system_prompt="Facts:", max_tokens=2)
        tokens = demo_runtime.count_tokens
        assert usage_of(llm.complete("One"))["prompt_tokens"] == tokens("Facts:\n\nOne")
        assert usage_of(llm.chat([ChatMessage("One")]))["prompt_tokens"] == tokens(
            "system: Facts:\nuser: One\nassistant:"
        )
        window = demo_runtime.info.max_model_len
        assert llm.metadata.context_window <= window - tokens("Facts:\n\n")


class TestEKeywords:
    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_e17_every_endpoint_honours_the_keywords_of_a_call(
        self, make_llm: MakeLLM, endpoint: str
    ) -> None:
        """A8: each has an effect, in each endpoint."""
        llm = make_llm(max_tokens=8, ignore_eos=True)
        for name in ("max_tokens", "max_new_tokens", "num_output"):
            assert usage_of(ask(llm, endpoint, **{name: 2})[-1])["completion_tokens"] == 2
        greedy = text_of(ask(llm, endpoint)[-1])
        wild = {"temperature": 2.0, "top_p": 1.0, "seed": 5}
        assert text_of(ask(llm, endpoint, **wild)[-1]) != greedy
        for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
            assert text_of(ask(llm, endpoint, **{**wild, **narrow})[-1]) == greedy
        assert text_of(ask(llm, endpoint, repetition_penalty=2.0)[-1]) != greedy
        biased = dict.fromkeys(llm.tokenizer_fn(greedy), -100.0)
        assert text_of(ask(llm, endpoint, logit_bias=biased)[-1]) != greedy
        assert text_of(ask(llm, endpoint, cache_salt="mine")[-1]) == greedy

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_unknown_and_wrong_keywords_raise(self, llm: Aquila2, endpoint: str) -> None:
        """S8: with the nearest name; nothing is dropped silently."""
        with pytest.raises(UnknownParameterError, match="temperature") as caught:
            ask(llm, endpoint, temprature=0.5)
        assert isinstance(caught.value, TypeError)
        with pytest.raises(InvalidSamplingParamsError, match="top_p"):
            ask(llm, endpoint, top_p=float("nan"))
        with pytest.raises(InvalidSamplingParamsError, match="max_tokens"):
            ask(llm, endpoint, max_tokens="12")
        with pytest.raises(InvalidSamplingParamsError):
            ask(llm, endpoint, max_tokens=3, max_new_tokens=4)
        with pytest.raises(UnknownParameterError):
            ask(llm, endpoint, n=2)
        with pytest.raises(InvalidRequestError):
            ask(llm, endpoint, adapter="none-such")

    @pytest.mark.parametrize(
        ("fields", "error", "named"),
        [
            ({"temprature": 0.5}, UnknownParameterError, "temperature"),
            ({"quantisation": "nf4"}, UnknownParameterError, "quantization"),
            ({"temperature": float("nan")}, InvalidSamplingParamsError, "temperature"),
            ({"temperature": "0.5"}, InvalidSamplingParamsError, "temperature"),
            ({"max_tokens": True}, InvalidSamplingParamsError, "max_tokens"),
            ({"max_tokens": 3, "num_output": 4}, InvalidSamplingParamsError, "num_output"),
            ({"stop": [""]}, InvalidSamplingParamsError, "stop"),
            ({"quantization": "q4"}, InvalidLoadOptionError, "quantization"),
            ({"device": "tpu"}, InvalidLoadOptionError, "device"),
            ({"model": ""}, InvalidLoadOptionError, "model"),
            ({"model": None}, InvalidLoadOptionError, "model"),
            ({"system_prompt": 7}, InvalidRequestError, "system_prompt"),
            ({"messages_to_prompt": "x"}, InvalidRequestError, "messages_to_prompt"),
            ({"is_chat_model": "no"}, InvalidRequestError, "is_chat_model"),
            (
                {"is_function_calling_model": 1},
                InvalidRequestError,
                "is_function_calling_model",
            ),
            ({"fit": "longest"}, InvalidRequestError, "fit"),
            ({"timeout": -1}, InvalidRequestError, "timeout"),
        ],
    )
    def test_the_constructor_raises_our_errors_as_themselves(
        self, fields: dict[str, Any], error: type[Exception], named: str
    ) -> None:
        """S1, S8: not wrapped by pydantic, and before anything is read."""
        given = {"model": "AquilaChat2-7B", **fields}
        with pytest.raises(error, match=named) as caught:
            Aquila2(**given)
        assert type(caught.value) is error
        with pytest.raises(error):
            Aquila2.from_dict(given)

    def test_defaults_are_those_documented(self) -> None:
        llm = Aquila2("AquilaChat2-7B")
        assert (llm.temperature, llm.top_p, llm.max_tokens) == (0.1, 0.9, None)
        assert Aquila2("AquilaChat2-7B", num_output=99).max_tokens == 99

    def test_assigned_fields_count_at_the_next_call(self, make_llm: MakeLLM) -> None:
        llm = make_llm(ignore_eos=True)
        llm.max_tokens = 3
        assert usage_of(llm.complete(QUESTION))["completion_tokens"] == 3
        assert llm.metadata.num_output == 3


def _greedy(llm: Aquila2) -> Any:
    from aquila2_runtime import SamplingParams

    return SamplingParams(max_tokens=llm.max_tokens or llm.metadata.num_output, temperature=0)
