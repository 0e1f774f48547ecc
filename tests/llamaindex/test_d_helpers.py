"""The helpers set up for a model: what they give back fits, and what cannot fit is named."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

import pytest
from llama_index.core import (
    ChatPromptTemplate,
    PromptTemplate,
    Settings,
    get_response_synthesizer,
    set_global_tokenizer,
)
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.indices.prompt_helper import DEFAULT_PADDING
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.utilities.token_counting import TokenCounter

from aquila2_runtime import Aquila2Runtime, ContextOverflowError
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2._chat_memory import ModelChatMemory
from llamaindex_aquila2._messages import plain_prompt
from llamaindex_aquila2._prompt_helper import ModelPromptHelper, ModelTokenCounter, TextList
from llamaindex_aquila2.conformance.texts import CODE, document
from tests.llamaindex.scripted import scripted_runtime
from tests.llamaindex.support import MakeLLM

PROMPT = PromptTemplate("Context: {context_str}\nQuestion: {query_str}")


def test_simple_summarize_sends_text_and_no_list(demo_runtime: Aquila2Runtime) -> None:
    """LlamaIndex formats a list into the prompt: ['def add...\\n']; its escapes overflowed."""
    runtime, engine = scripted_runtime(demo_runtime, 2_048, 1)
    llm = Aquila2.from_runtime(runtime, max_tokens=64).use_as_default()
    synthesizer = get_response_synthesizer(
        llm=llm, response_mode="simple_summarize", prompt_helper=llm.prompt_helper()
    )
    synthesizer.synthesize("What?", [NodeWithScore(node=TextNode(text=CODE * 3), score=1.0)])
    [request] = engine.asked
    prompt = demo_runtime.tokenizer.decode(request.prompt_token_ids)
    assert CODE * 3 in prompt + "\n"
    assert "['" not in prompt
    assert "\\n" not in prompt


def test_a_list_of_texts_is_a_list_and_reads_as_text() -> None:
    texts = TextList(["a\n", "b"])
    assert texts == ["a\n", "b"]
    assert f"{texts}" == str(texts) == f"{texts:s}" == "a\n\n\nb"
    assert f"{texts:>10}" == "   a\n\n\nb".rjust(10)


def test_what_fits_one_prompt_is_packed_into_one(make_llm: MakeLLM) -> None:
    """LlamaIndex's compact puts 500 tokens aside for an answer that may not be there."""
    helper = make_llm(max_tokens=256).prompt_helper()
    room = helper._get_available_chunk_size(PROMPT)
    tokens = make_llm().tokenizer_fn
    text = document("en", 40_000, 1)
    while len(tokens(text)) > room - 10:
        text = text[:-100]
    assert len(helper.repack(PROMPT, [text[:2_000], text[2_000:]], padding=500)) == 1
    halves = helper.repack(PROMPT, [text, text], padding=500)
    assert len(halves) > 2
    assert all(len(tokens(chunk)) <= room - min(500, room // 4) + 8 for chunk in halves)


@pytest.mark.parametrize("padding", [5, 500])
def test_a_prompt_that_leaves_no_room_is_named_with_its_numbers(
    make_llm: MakeLLM, padding: int
) -> None:
    """D12: LlamaIndex says "Chunk size -228 is not positive."."""
    llm = make_llm(max_model_len=256, max_tokens=128)
    long = PromptTemplate("word " * 200 + "{context_str}")
    helper = llm.prompt_helper()
    for pack in (helper.repack, helper.truncate):
        with pytest.raises(ContextOverflowError) as caught:
            pack(long, ["text"], padding)
        assert caught.value.prompt_tokens >= 200
        assert caught.value.max_tokens == 128
        assert caught.value.max_model_len == llm.metadata.context_window


@pytest.mark.parametrize("length", [64, 128, 256, 1_024, 2_048])
@pytest.mark.parametrize("share", [2, 4, 8])
def test_helpers_can_be_made_for_any_context(make_llm: MakeLLM, length: int, share: int) -> None:
    """Sizes stay positive, and chunks, memory and answer fit together."""
    llm = make_llm(max_model_len=length, max_tokens=length // share)
    window = llm.metadata.context_window
    chunk = llm.node_parser().chunk_size
    memory = llm.chat_memory().token_limit
    assert chunk >= 1
    assert memory >= 1
    assert memory + llm.metadata.num_output <= window
    assert 2 * chunk + memory + llm.metadata.num_output <= window + 32
    assert isinstance(llm.prompt_helper(), ModelPromptHelper)


def test_a_memory_gives_no_answer_back_that_is_longer_than_its_limit(make_llm: MakeLLM) -> None:
    """LlamaIndex's own returned it whole, and the next prompt overflowed."""
    llm = make_llm()
    memory = llm.chat_memory(50)
    assert memory.get() == []
    question = ChatMessage("Where is it?")
    answer = ChatMessage("word " * 60, role="assistant")
    for message in (question, answer):
        memory.put(message)
    assert memory.get() == []
    assert ChatMemoryBuffer.get(memory) == [answer]
    memory.put(ChatMessage("And when?"))
    assert [message.content for message in memory.get()] == ["And when?"]
    # A question is kept however long it is, for the model to refuse by name.
    memory.put(ChatMessage("word " * 60))
    assert [message.content for message in memory.get()] == ["word " * 60]
    assert len(memory.get_all()) == 4


@pytest.mark.parametrize("seed", range(40))
def test_a_memory_gives_back_what_llamaindex_s_own_would(seed: int) -> None:
    """Where that is within the limit; it is found with fewer counts."""
    rng = random.Random(seed)
    roles = ("user", "assistant", "tool", "system")
    history = [
        ChatMessage("word " * rng.randint(1, 8), role=rng.choice(roles))
        for _ in range(rng.randint(0, 14))
    ]
    limit = rng.randint(1, 60)
    taken = rng.randint(0, limit)

    def get(memory: type[ChatMemoryBuffer]) -> list[ChatMessage]:
        given = {"chat_history": history, "token_limit": limit, "tokenizer_fn": str.split}
        return memory.from_defaults(**given).get(initial_token_count=taken)

    expected = get(ChatMemoryBuffer)
    long = taken + sum(len(str(message.content).split()) for message in expected) > limit
    if long and expected[-1].role != "user":
        expected = []
    assert get(ModelChatMemory) == expected


@pytest.mark.parametrize("arguments", [{"text": "word " * 60}, '{"text": "' + "word " * 60])
def test_a_memory_counts_the_calls_in_its_messages(make_llm: MakeLLM, arguments: Any) -> None:
    """Ten of them once went into a prompt for the room of none."""
    llm = make_llm()
    memory = llm.chat_memory(200)
    for place in range(10):
        memory.put(ChatMessage("Put it down."))
        call = ToolCallBlock(tool_call_id=str(place), tool_name="note", tool_kwargs=arguments)
        memory.put(ChatMessage(role="assistant", blocks=[call]))
        memory.put(ChatMessage("", role="tool", additional_kwargs={"tool_call_id": str(place)}))
    memory.put(ChatMessage("And then?"))
    kept = memory.get()
    assert kept[-1].content == "And then?"
    assert 4 <= len(kept) < 10
    said = plain_prompt(kept).splitlines()
    called = [line for line in said if "note" in line]
    assert 0 < sum(len(llm.tokenizer_fn(line)) for line in called) <= 200


def test_a_memory_counts_as_much_as_it_gives_back_however_old_the_talk_is() -> None:
    """LlamaIndex's own counts the whole talk, then all but its first message, and so on."""
    counted = 0

    def count(text: str) -> list[str]:
        nonlocal counted
        words = text.split()
        counted += len(words)
        return words

    talk = [
        ChatMessage("word " * 10, role="assistant" if place % 2 else "user")
        for place in range(2_000)
    ]
    memory = ModelChatMemory.from_defaults(chat_history=talk, token_limit=200, tokenizer_fn=count)
    assert len(memory.get()) == 20
    assert counted < 10 * 200


def test_a_memory_works_beside_a_system_message_longer_than_its_limit(make_llm: MakeLLM) -> None:
    """LlamaIndex's own raises "Initial token count exceeds token limit"."""
    memory = make_llm().chat_memory(20)
    memory.put(ChatMessage("Where is it?"))
    assert [message.content for message in memory.get(initial_token_count=500)] == ["Where is it?"]
    found = asyncio.run(memory.aget(initial_token_count=500))
    assert [message.content for message in found] == ["Where is it?"]
    memory.put(ChatMessage("There.", role="assistant"))
    assert memory.get(initial_token_count=500) == []


def test_d13_a_prompt_s_messages_are_counted_here_and_by_the_model_s_tokenizer(
    make_llm: MakeLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LlamaIndex's own asked the process's tokenizer, in a thread for which the loop waited."""
    llm = make_llm(max_tokens=64)
    helper, texts = llm.prompt_helper(), ["你是一位图书管理员。" * 20, "{context_str}{query_str}"]
    prompt = ChatPromptTemplate(
        message_templates=[
            ChatMessage(text, role=role)
            for text, role in zip(texts, ("system", "user"), strict=True)
        ]
    )

    def refuse(*args: object) -> list[int]:
        raise AssertionError(args)

    set_global_tokenizer(refuse)
    monkeypatch.setattr(threading.Thread, "start", refuse)

    async def inside() -> int:
        assert helper.repack(prompt, ["Some text."]) == ["Some text."]
        return helper._get_available_chunk_size(prompt)

    room = asyncio.run(inside())
    count = llm.tokenizer_fn
    taken = sum(len(count(text)) for text in (texts[0], "system", "user")) + 2 * 3
    most = llm.metadata.context_window - 64 - taken - DEFAULT_PADDING
    # Earlier releases of LlamaIndex put some more tokens aside, for tools that are not there.
    assert most - 16 <= room <= most
    # What is no text is LlamaIndex's to estimate, as ever.
    monkeypatch.undo()
    Settings.tokenizer = count
    blocks = [TextBlock(text="Look:"), ThinkingBlock(content="Where is it?")]
    thought = ChatMessage(role="assistant", blocks=blocks)
    own, theirs = (
        kind(count).estimate_tokens_in_messages([thought])
        for kind in (ModelTokenCounter, TokenCounter)
    )
    assert own == theirs > len(count("Look:Where is it?"))


def test_chat_engines_find_the_helper_of_the_default_model(make_llm: MakeLLM) -> None:
    """They take no helper; LlamaIndex's own once overflowed or raised at the fourth turn."""
    llm = make_llm(max_tokens=99).use_as_default()
    assert isinstance(Settings.prompt_helper, ModelPromptHelper)
    assert Settings.prompt_helper.num_output == 99
    assert Settings.prompt_helper.context_window == llm.metadata.context_window
