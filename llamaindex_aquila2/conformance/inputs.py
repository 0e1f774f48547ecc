"""E. Input: roles, blocks, prompts, keywords and stops are honoured or refused, never dropped."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    VideoBlock,
)
from llama_index.core.prompts import PromptTemplate
from pydantic import AnyUrl

from llamaindex_aquila2.conformance.calls import (
    CHATS,
    COMPLETIONS,
    ENDPOINTS,
    QUESTION,
    ask,
    text_of,
    usage_of,
)
from llamaindex_aquila2.conformance.suite import Suite

# An address that answers nothing: an LLM that fetches what it is shown would be seen to.
NOWHERE = "http://192.0.2.1/x"
# Around a question, it makes another one: the answer cannot be the same by chance.
OTHER_QUESTION = "{query_str}\n\nThe lamp is red.\n\nWhat is the colour of the lamp?"
BLOCKS: list[tuple[Any, str]] = [
    (ImageBlock(url=AnyUrl(f"{NOWHERE}.png")), "image"),
    (ImageBlock(path=Path("/etc/passwd")), "image"),
    (AudioBlock(url=AnyUrl(f"{NOWHERE}.wav")), "audio"),
    (VideoBlock(url=AnyUrl(f"{NOWHERE}.mp4")), "video"),
    (DocumentBlock(url=f"{NOWHERE}.pdf"), "document"),
]


class InputTests(Suite):
    """Points 15 to 18."""

    @pytest.mark.parametrize("role", list(MessageRole))
    def test_e15_every_role_is_taken(self, role: MessageRole) -> None:
        """What another model or an agent left in a conversation can be read."""
        messages = [ChatMessage("Rome is in Italy.", role=role), ChatMessage("Where is Rome?")]
        assert isinstance(self.at_most(4).chat(messages).message.content, str)

    def test_e15_several_and_late_system_messages_reach_the_prompt(self) -> None:
        """LLM.system_prompt and LlamaIndex's own QA prompt make two in every RAG query."""
        llm = self.at_most(2)
        talk = [ChatMessage("Be brief.", role="system"), ChatMessage(QUESTION)]
        late = [*talk, ChatMessage("Name your source.", role="system")]
        counts = [usage_of(llm.chat(said))["prompt_tokens"] for said in (talk[1:], talk, late)]
        assert counts[0] < counts[1] < counts[2]

    def test_e15_every_text_block_reaches_the_prompt(self) -> None:
        """And what is added to a message by way of keywords does not."""
        llm, words = self.at_most(2), ["Falcon is green.", "What is green?"]
        blocks = [TextBlock(text=text) for text in words]
        counts = [
            usage_of(llm.chat([ChatMessage(role="user", blocks=blocks[:count])]))["prompt_tokens"]
            for count in (1, 2)
        ]
        assert counts[0] < counts[1]
        extra = {"tool_call_id": "call-17", "name": "x" * 50}
        message = ChatMessage(role="user", blocks=blocks, additional_kwargs=extra)
        assert usage_of(llm.chat([message]))["prompt_tokens"] == counts[1]

    @pytest.mark.parametrize(("block", "kind"), BLOCKS)
    @pytest.mark.parametrize("endpoint", CHATS)
    def test_e15_what_is_not_text_is_refused_by_name(
        self, endpoint: str, block: Any, kind: str
    ) -> None:
        """A class that takes such blocks overrides this test."""
        messages = [
            ChatMessage("Look:"),
            ChatMessage(role="user", blocks=[TextBlock(text="What is this?"), block]),
        ]
        with pytest.raises(ValueError, match=kind):
            ask(self.at_most(4), endpoint, messages)

    @pytest.mark.parametrize(
        "fields",
        [
            {"system_prompt": "Answer in a full sentence."},
            {"query_wrapper_prompt": PromptTemplate(OTHER_QUESTION)},
            {"completion_to_prompt": lambda prompt: f"Q: {prompt}\nA:"},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    def test_e16_prompt_fields_act_the_same_in_all_completions(
        self, fields: dict[str, Any]
    ) -> None:
        """Plain, streamed and async; and they do act."""
        llm = self.exactly(24, **fields)
        texts = {text_of(ask(llm, endpoint)[-1]) for endpoint in COMPLETIONS}
        assert len(texts) == 1
        assert texts != {self.exactly(24).complete(QUESTION).text}

    def test_e16_messages_to_prompt_makes_every_conversation_s_prompt(self) -> None:
        """In all four chat endpoints, once in each."""
        seen = []

        def to_prompt(messages: Any) -> str:
            seen.append(len(messages))
            return "|".join(str(message.content) for message in messages)

        llm = self.exactly(24, messages_to_prompt=to_prompt)
        assert len({text_of(ask(llm, endpoint)[-1]) for endpoint in CHATS}) == 1
        assert seen == [1] * 4

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_e17_the_keywords_of_a_call_have_an_effect(self, endpoint: str) -> None:
        """The limit and the way of choosing, over the constructor's."""
        llm = self.exactly(8)
        greedy = text_of(ask(llm, endpoint)[-1])
        short = text_of(ask(llm, endpoint, **{self.limit: 2})[-1])
        assert len(short) < len(greedy)
        assert greedy.startswith(short)
        drawn = (ask(llm, endpoint, **self.random_keywords(seed))[-1] for seed in range(3))
        assert any(text_of(response) != greedy for response in drawn)

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_e17_a_keyword_that_does_not_exist_is_a_type_error(self, endpoint: str) -> None:
        """A slip of the pen must not be a default silently."""
        with pytest.raises(TypeError, match="temprature"):
            ask(self.at_most(4), endpoint, temprature=0.5)

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_e18_a_stop_string_ends_every_kind_of_answer_and_never_shows(
        self, endpoint: str
    ) -> None:
        """Across token borders, in pieces or whole."""
        llm = self.exactly(40)
        text = llm.complete(QUESTION).text
        # Chosen in the middle of the answer, at no particular token border.
        stop = text[len(text) // 2 : len(text) // 2 + 3]
        responses = ask(llm, endpoint, stop=[stop])
        assert text_of(responses[-1]) == text[: text.index(stop)]
        assert all(stop not in text_of(response) for response in responses)

    def test_e18_calls_at_once_keep_their_own_stops(self) -> None:
        """Each ends where its own stop string is."""
        llm = self.exactly(40)
        text = llm.complete(QUESTION).text
        stops = [text[at : at + 3] for at in range(len(text) // 4, len(text) // 2, 3)][:4]

        async def together() -> list[str]:
            calls = (llm.acomplete(QUESTION, stop=[stop]) for stop in stops)
            return [answer.text for answer in await asyncio.gather(*calls)]

        assert asyncio.run(together()) == [text[: text.index(stop)] for stop in stops]
