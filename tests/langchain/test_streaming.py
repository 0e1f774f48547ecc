"""Who streams and when: constructor, call and callbacks; the answer is the same either way."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import ConfigurableField, RunnableLambda

from aquila2_runtime import errors as ours
from langchain_aquila2 import Aquila2LLM, ChatAquila2
from tests.langchain.support import MakeChat

ASK = "What can you do?"


class Told(BaseCallbackHandler):
    """Keeps what it is told while an answer is written."""

    def __init__(self) -> None:
        self.pieces: list[Any] = []

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.pieces.append(token)


@pytest.mark.parametrize("made", ["itself", "configured"])
async def test_tokens_reach_who_listens_also_where_a_field_is_configured(
    make_chat: MakeChat, made: str
) -> None:
    """A model made again with all its fields seemed to refuse to stream."""
    chat = make_chat(max_tokens=12)
    field = ConfigurableField(id="warmth")
    model: Any = {
        "itself": chat,
        "configured": chat.configurable_fields(temperature=field).with_config(
            configurable={"warmth": 0}
        ),
    }[made]

    async def ask(text: str) -> Any:
        return (await model.ainvoke(text)).text

    events = [event async for event in RunnableLambda(ask).astream_events(ASK, version="v2")]
    told = [one["data"]["chunk"] for one in events if one["event"] == "on_chat_model_stream"]
    assert len(told) > 3
    assert "".join(chunk.text for chunk in told) == chat.invoke(ASK).text


async def test_a_call_says_whether_it_streams(make_chat: MakeChat) -> None:
    """LangChain heeds the word and passes it on; it was refused as unknown."""
    chat = make_chat(max_tokens=12)
    for model, given, streams in (
        (chat, {"stream": True}, True),
        (chat, {"stream": False}, False),
        (chat, {}, False),
        (make_chat(max_tokens=12, streaming=True), {"stream": False}, False),
        (make_chat(max_tokens=12, streaming=True), {}, True),
        (make_chat(max_tokens=12, streaming=None), {}, False),
    ):
        told, awaited = Told(), Told()
        answer = model.invoke(ASK, config={"callbacks": [told]}, **given)
        assert (await model.ainvoke(ASK, config={"callbacks": [awaited]}, **given)).text == (
            answer.text
        )
        assert (len(told.pieces) > 3) is (len(awaited.pieces) > 3) is streams
    assert chat._get_llm_string(stream=True) == chat._get_llm_string()
    with pytest.raises(ours.InvalidRequestError, match="stream"):
        chat.invoke(ASK, stream="yes")


async def test_a_plain_model_streams_to_callbacks(spec: dict[str, Any], demo_runtime: Any) -> None:
    """``streaming=True`` had no effect."""
    fields = {**spec, "temperature": 0, "max_tokens": 8, "ignore_eos": True}
    plain, streamed = Aquila2LLM(**fields), Aquila2LLM(**fields, streaming=True)
    expected = plain.generate(["Once"], logprobs=True)
    for awaited in (False, True):
        told = Told()
        given: Any = {"callbacks": [told], "logprobs": True}
        found = (
            await streamed.agenerate(["Once"], **given)
            if awaited
            else streamed.generate(["Once"], **given)
        )
        assert len(told.pieces) > 3
        [[answer]], [[whole]] = found.generations, expected.generations
        assert "".join(told.pieces) == answer.text == whole.text
        assert found.llm_output == expected.llm_output
        info, other = answer.generation_info or {}, whole.generation_info or {}
        assert info.keys() == other.keys()
        assert info["finish_reason"] == other["finish_reason"] == "length"
        assert len(info["logprobs"]["content"]) == 8
    assert streamed.batch(["Once", "The sun"]) == plain.batch(["Once", "The sun"])
    assert isinstance(ChatAquila2(model="nowhere").streaming, type(None))


async def test_a_stream_of_a_plain_model_is_told_to_callbacks_too(
    spec: dict[str, Any], demo_runtime: Any
) -> None:
    """Only ``generate`` told them, so events had a start and an end and no text."""
    plain = Aquila2LLM(**spec, temperature=0, max_tokens=24, ignore_eos=True)
    for awaited in (False, True):
        told = Told()
        given: Any = {"callbacks": [told]}
        pieces = (
            [piece async for piece in plain.astream("Once", given)]
            if awaited
            else list(plain.stream("Once", given))
        )
        assert len(pieces) > 3
        assert told.pieces == pieces
    chain = RunnableLambda(str) | plain
    events = [event async for event in chain.astream_events("Once", version="v2")]
    written = [one["data"]["chunk"] for one in events if one["event"] == "on_llm_stream"]
    # Where a text is cut hangs on when it is read.
    assert len(written) > 3
    assert "".join(chunk.text for chunk in written) == "".join(pieces)
