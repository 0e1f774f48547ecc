"""What one answer is: its text, its end, its length, its counts, in every way of calling."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core import exceptions as core
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from aquila2_runtime import Aquila2Runtime, Choice, Message
from aquila2_runtime import errors as ours
from langchain_aquila2 import Aquila2LLM, ChatAquila2
from tests.langchain.support import MakeChat

QUESTION = "What can you do?"  # answered at length by any checkpoint of this recipe
OPEN = "Tell me a story"  # hardly ever answered twice alike
WILD = {"temperature": 2.0, "top_p": 1.0, "ignore_eos": True}


def joined(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


def test_the_answer_is_the_runtime_s_and_echoes_no_prompt(
    chat: ChatAquila2, demo_runtime: Aquila2Runtime
) -> None:
    answer = chat.invoke(QUESTION)
    params = chat._request(None, {}).params
    expected = demo_runtime.chat([Message("user", QUESTION)], params)
    assert answer.content == expected.text != ""
    assert QUESTION not in answer.content


async def test_all_four_ways_of_asking_give_the_same_text(chat: ChatAquila2) -> None:
    told = chat.invoke(QUESTION).content
    assert (await chat.ainvoke(QUESTION)).content == told
    assert "".join([chunk.text for chunk in chat.stream(QUESTION)]) == told
    assert "".join([chunk.text async for chunk in chat.astream(QUESTION)]) == told


@pytest.mark.parametrize("by", ["constructor", "call", "both"])
def test_a_stop_string_ends_invoke_and_stream_before_it(make_chat: MakeChat, by: str) -> None:
    """The stop is cut from an answer's middle, over a border of tokens."""
    free = make_chat(max_tokens=20, logprobs=0).invoke(QUESTION)
    tokens = [entry["token"] for entry in free.response_metadata["logprobs"]["content"]]
    text, border = free.text, len("".join(tokens[:5]))
    stop = text[border - 1 : border + 1]
    assert len(stop) == 2
    own = {"constructor": stop, "call": None, "both": ["never said"]}[by]
    asked = None if by == "constructor" else [stop]
    model = make_chat(max_tokens=20, stop=own)
    whole = model.invoke(QUESTION, stop=asked)
    assert whole.content == text[: text.index(stop)]
    assert whole.response_metadata["finish_reason"] == "stop"
    assert whole.response_metadata["stop_reason"] == stop
    assert joined(list(model.stream(QUESTION, stop=asked))).content == whole.content


def test_max_tokens_is_exact_and_the_call_s_wins(make_chat: MakeChat) -> None:
    chat = make_chat(max_tokens=7, **WILD)
    for answer, count in ((chat.invoke("hi"), 7), (chat.invoke("hi", max_tokens=3), 3)):
        assert answer.usage_metadata["output_tokens"] == count
        assert answer.response_metadata["finish_reason"] == "length"
        assert answer.response_metadata["model_name"] == chat._lease.runtime().info.model
        assert answer.response_metadata["timings"]["first_token"] > 0


def test_a_seed_gives_the_same_text_again_and_in_a_batch(make_chat: MakeChat) -> None:
    chat = make_chat(max_tokens=12, seed=11, **WILD)
    alone = chat.invoke(QUESTION).content
    assert chat.invoke(QUESTION).content == alone
    batch = chat.batch(["hi", QUESTION, "What is the sky?", QUESTION])
    assert batch[1].content == batch[3].content == alone
    assert chat.invoke(QUESTION, seed=12).content != alone


def test_usage_is_on_the_last_chunk_only_and_equals_invoke_s(
    chat: ChatAquila2, demo_runtime: Aquila2Runtime
) -> None:
    chat.invoke(QUESTION)  # from now on the prefix cache holds the same for both
    told = chat.invoke(QUESTION).usage_metadata
    *others, last = chat.stream(QUESTION)
    assert others
    assert all(chunk.usage_metadata is None for chunk in others)
    assert last.usage_metadata == told
    assert last.chunk_position == "last"
    prompt = demo_runtime.render([Message("user", QUESTION)])
    assert told["input_tokens"] == len(prompt)


def test_logprobs_have_one_entry_per_token_in_invoke_and_stream(make_chat: MakeChat) -> None:
    chat = make_chat(max_tokens=6, logprobs=2, **{**WILD, "temperature": 0})
    told = chat.invoke(QUESTION).response_metadata["logprobs"]["content"]
    streamed = joined(list(chat.stream(QUESTION))).response_metadata["logprobs"]["content"]
    assert len(told) == len(streamed) == 6
    assert [entry["token"] for entry in told] == [entry["token"] for entry in streamed]
    assert all(len(entry["top_logprobs"]) == 2 for entry in told)


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 3}, 3),
        ({"top_logprobs": 2}, 2),
        ({"logprobs": 1}, 1),
    ],
    ids=str,
)
async def test_logprobs_have_the_form_of_open_ai_s_in_every_way_of_asking(
    make_chat: MakeChat, given: dict[str, Any], count: int
) -> None:
    chat = make_chat(max_tokens=5, ignore_eos=True)
    [generations] = chat.generate([[HumanMessage(QUESTION)]], **given).generations
    info = generations[0].generation_info
    assert info is not None
    told = info["logprobs"]["content"]
    assert len(told) == 5
    for entry in told:
        assert list(entry) == ["token", "logprob", "bytes", "top_logprobs"]
        assert entry["logprob"] <= 0
        assert len(entry["top_logprobs"]) == count
        for likely in entry["top_logprobs"]:
            assert list(likely) == ["token", "logprob", "bytes"]
        # A greedy answer's tokens are the likeliest ones.
        assert all(entry["logprob"] >= one["logprob"] for one in entry["top_logprobs"])
    spelled = b"".join(bytes(entry["bytes"]) for entry in told)
    assert spelled.decode("utf-8", "replace") == generations[0].text
    own = make_chat(max_tokens=5, ignore_eos=True, **given)
    batched = own.batch([QUESTION, QUESTION])
    streamed = joined([chunk async for chunk in own.astream(QUESTION)])
    for message in (own.invoke(QUESTION), await own.ainvoke(QUESTION), *batched, streamed):
        found = message.response_metadata["logprobs"]["content"]
        assert [entry["token"] for entry in found] == [entry["token"] for entry in told]
        assert found[0]["logprob"] == pytest.approx(told[0]["logprob"], abs=1e-4)


def test_logprobs_are_left_out_unless_asked_for(make_chat: MakeChat) -> None:
    for given in ({}, {"logprobs": False}, {"logprobs": None}):
        message = make_chat(max_tokens=2, **given).invoke(QUESTION)
        assert "logprobs" not in message.response_metadata
    with pytest.raises(ours.InvalidSamplingParamsError, match="logprobs"):
        make_chat(logprobs=True, top_logprobs=500)


@pytest.mark.parametrize("character", ["龘", "😀"])
def test_bytes_of_logprobs_are_those_of_the_tokens_themselves(
    chat: ChatAquila2, character: str
) -> None:
    """A token that is half a character shows as U+FFFD and has bytes of its own."""
    answer = chat.bind(constraint=Choice([character]), logprobs=True).invoke("hi")
    content = answer.response_metadata["logprobs"]["content"]
    assert len(content) > 1
    assert b"".join(bytes(entry["bytes"] or ()) for entry in content) == character.encode()


async def test_a_logit_bias_decides_in_every_way_of_asking(make_chat: MakeChat) -> None:
    """Its ids may be text, as JSON has them."""
    chat = make_chat(max_tokens=3, ignore_eos=True)
    [wanted, *_] = chat.get_token_ids("river")
    told = chat.get_token_ids("")
    assert told == []
    bias = {str(wanted): 100}
    texts = {
        chat.invoke(QUESTION, logit_bias=bias).content,
        (await chat.ainvoke(QUESTION, logit_bias=bias)).content,
        joined(list(chat.stream(QUESTION, logit_bias=bias))).content,
        *(answer.content for answer in chat.batch([QUESTION, "hi"], logit_bias=bias)),
        make_chat(max_tokens=3, ignore_eos=True, logit_bias=bias).invoke("ho").content,
    }
    [text] = texts
    whole = make_chat().warmup()._lease.runtime().tokenizer.decode([wanted] * 3)
    assert text == whole


async def test_n_answers_come_back_and_their_tokens_are_counted_once(make_chat: MakeChat) -> None:
    chat = make_chat(max_tokens=5, n=3, seed=1, **WILD)
    asked = [[HumanMessage(OPEN)], [HumanMessage("hi")]]
    result = chat.generate(asked)
    for generations in result.generations:
        messages = [generation.message for generation in generations]
        assert len({message.content for message in messages}) == 3
        usages = [message.usage_metadata for message in messages if message.usage_metadata]
        assert [usage["output_tokens"] for usage in usages] == [15]
    assert result.llm_output is not None
    assert result.llm_output["token_usage"]["completion_tokens"] == 30
    awaited = await chat.agenerate(asked)
    texts = [[one.text for one in generations] for generations in result.generations]
    assert [[one.text for one in some] for some in awaited.generations] == texts
    assert chat.invoke(OPEN).content == texts[0][0]
    with pytest.raises(ours.InvalidSamplingParamsError, match="stream"):
        list(chat.stream(OPEN))


def test_counted_tokens_are_the_rendered_prompt(
    chat: ChatAquila2, demo_runtime: Aquila2Runtime
) -> None:
    messages = [
        SystemMessage("Be brief."),
        HumanMessage("Hi"),
        AIMessage("你好"),
        HumanMessage("?"),
    ]
    rendered = demo_runtime.render(
        [
            Message("system", "Be brief."),
            Message("user", "Hi"),
            Message("assistant", "你好"),
            Message("user", "?"),
        ]
    )
    assert chat.get_num_tokens_from_messages(messages) == len(rendered)
    assert chat.invoke(messages).usage_metadata["input_tokens"] == len(rendered)


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_an_overflow_is_an_error_of_both_kinds(chat: ChatAquila2, way: str) -> None:
    for kind in (ours.ContextOverflowError, core.ContextOverflowError):
        with pytest.raises(kind) as caught:
            answer = getattr(chat, way)("word " * 4000)
            list(answer)
        assert caught.value.max_model_len == 4096


class Counter(BaseCallbackHandler):
    """Counts starts, tokens and ends."""

    def __init__(self) -> None:
        self.starts = self.tokens = self.ends = 0

    def on_chat_model_start(self, *args: object, **kwargs: object) -> None:
        self.starts += 1

    def on_llm_new_token(self, *args: object, **kwargs: object) -> None:
        self.tokens += 1

    def on_llm_end(self, *args: object, **kwargs: object) -> None:
        self.ends += 1


def test_callbacks_fire_once_per_answer(chat: ChatAquila2) -> None:
    one, many, streamed, made = Counter(), Counter(), Counter(), Counter()
    chat.invoke("hi", config={"callbacks": [one]})
    chat.batch(["hi", "ho", "ha"], config={"callbacks": [many]})
    chunks = list(chat.stream("hi", config={"callbacks": [streamed]}))
    chat.generate([[HumanMessage("hi")], [HumanMessage("ho")]], callbacks=[made])
    assert (one.starts, one.tokens, one.ends) == (1, 0, 1)
    assert (many.starts, many.tokens, many.ends) == (3, 0, 3)
    assert (made.starts, made.tokens, made.ends) == (2, 0, 2)
    assert (streamed.starts, streamed.tokens, streamed.ends) == (1, len(chunks), 1)


async def test_a_chain_streams(chat: ChatAquila2) -> None:
    chain = ChatPromptTemplate.from_messages([("human", "{it}")]) | chat | StrOutputParser()
    told = chain.invoke({"it": QUESTION})
    pieces = list(chain.stream({"it": QUESTION}))
    assert len([piece for piece in pieces if piece]) > 2
    assert "".join(pieces) == told
    assert "".join([piece async for piece in chain.astream({"it": QUESTION})]) == told


async def test_the_plain_llm_completes_without_a_template(
    spec: dict[str, object], demo_runtime: Aquila2Runtime
) -> None:
    llm = Aquila2LLM(**spec, temperature=0, max_tokens=8, ignore_eos=True)
    [[plain]] = llm.generate(["Once"], logprobs=True).generations
    assert plain.generation_info is not None
    assert len(plain.generation_info["logprobs"]["content"]) == 8
    pieces = list(llm._stream("Once", logprobs=1))
    found = [piece.generation_info or {} for piece in pieces]
    assert sum(len(one.get("logprobs", {}).get("content", [])) for one in found) == 8
    prompts = ["Once", "The sun"]
    params = llm._request(None, {}).params
    told = [demo_runtime.complete(prompt, params).text for prompt in prompts]
    assert llm.batch(prompts) == await llm.abatch(prompts) == told
    assert "".join(llm.stream(prompts[0])) == llm.invoke(prompts[0]) == told[0]
    assert "".join([piece async for piece in llm.astream(prompts[1])]) == told[1]
