"""Calls in streams, whatever arrives together: one delta may hold text, a call and its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.tools import tool

from aquila2_runtime import FinishReason, TokenLogprob, Usage
from aquila2_runtime.engine.handle import Mailbox
from aquila2_runtime.outputs import Delta
from aquila2_runtime.tool_parser import ToolCallParser, ToolCallPiece
from langchain_aquila2 import ChatAquila2
from langchain_aquila2._results import Chunks
from tests.langchain.support import MakeChat, let_time_pass

ASK = "How is the weather in Paris?"
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>'
TWICE = f"Let me see.\n{CALL}\n{CALL.replace('Paris', 'Rome')}"
USAGE = Usage(prompt_tokens=3, completion_tokens=4)
LOGPROBS = (TokenLogprob(token_id=5, token="x", logprob=-1.0),)


@tool
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"{city}: 21 degrees"


def deltas(text: str, size: int, reason: FinishReason = FinishReason.STOP) -> list[Delta]:
    """What the runtime gives of an answer that arrives ``size`` characters at a time."""
    parser = ToolCallParser()
    parts = [parser.feed(text[at : at + size]) for at in range(0, len(text), size)]
    made = [Delta(content=one.content, tool_calls=one.pieces) for one in parts]
    last = parser.finish()
    end = Delta(
        content=made[-1].content + last.content,
        tool_calls=made[-1].tool_calls + last.pieces,
        finish_reason=reason,
        usage=USAGE,
        logprobs=LOGPROBS,
    )
    return [*made[:-1], end]


class Told(ChatAquila2):
    """Streams given deltas: what its weights would say, and how fast it is read, is pinned."""

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        if isinstance(messages[-1], ToolMessage):
            yield from super()._stream(messages, stop, run_manager)
            return
        chunks = Chunks(self._lease.runtime())
        for delta in TOLD:
            yield from chunks.of(delta)


TOLD: list[Delta] = []


@pytest.fixture(params=[1000, 70, 3], ids=lambda size: f"{size} at a time")
def arriving(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "TOLD", deltas(TWICE, request.param))


@pytest.fixture
def told(make_chat: MakeChat, spec: dict[str, Any]) -> Any:
    make_chat().warmup()
    return lambda **fields: Told(**spec, temperature=0, max_tokens=8, **fields)


def joined(chunks: list[Any]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


def args_of(message: Any) -> list[Any]:
    return [call["args"] for call in message.tool_calls]


@pytest.mark.usefixtures("arriving")
@pytest.mark.parametrize("version", [None, "v1"])
def test_text_and_calls_are_told_whatever_arrives_together(told: Any, version: Any) -> None:
    """A call whose head came with text lost its arguments; one that came last was lost."""
    chunks = list(told(output_version=version).stream(ASK))
    whole = joined(chunks)
    assert args_of(whole) == [{"city": "Paris"}, {"city": "Rome"}]
    assert whole.text == "Let me see."
    assert not whole.invalid_tool_calls
    kinds = [block["type"] for block in whole.content_blocks]
    assert kinds == ["text", "tool_call", "tool_call"]
    *others, last = chunks
    assert (last.chunk_position, last.tool_call_chunks) == ("last", [])
    assert not last.content
    assert not any(chunk.usage_metadata or chunk.chunk_position for chunk in others)
    assert last.usage_metadata["output_tokens"] == 4
    assert not any(chunk.content and chunk.tool_call_chunks for chunk in others if version is None)
    assert len(whole.response_metadata["logprobs"]["content"]) == 1


@pytest.mark.usefixtures("arriving")
async def test_events_tell_the_same(told: Any) -> None:
    output: Any = told().stream_events(ASK, version="v3").output
    assert args_of(output) == [{"city": "Paris"}, {"city": "Rome"}]
    assert [block["type"] for block in output.content] == ["text", "tool_call", "tool_call"]
    assert output.usage_metadata["output_tokens"] == 4


@pytest.mark.usefixtures("arriving")
@pytest.mark.parametrize("version", [None, "v1"])
def test_an_agent_runs_what_was_called(told: Any, version: Any) -> None:
    agents = pytest.importorskip("langchain.agents")
    agent = agents.create_agent(told(output_version=version, streaming=True), [get_weather])
    found = agent.invoke({"messages": [HumanMessage(ASK)]})["messages"]
    results = [one.content for one in found if isinstance(one, ToolMessage)]
    assert results == ["Paris: 21 degrees", "Rome: 21 degrees"]


@pytest.mark.parametrize("version", [None, "v1"])
def test_a_late_reader_gets_the_call(
    make_chat: MakeChat, monkeypatch: pytest.MonkeyPatch, version: Any
) -> None:
    """Through the engine: everything has arrived when the reader first looks."""
    read = Mailbox.read

    def late(self: Mailbox) -> Any:
        while not self._ended:
            threading.Event().wait(0.01)
        return read(self)

    chat = make_chat(max_tokens=64, output_version=version)
    bound = chat.bind_tools([get_weather], tool_choice="get_weather")
    expected = args_of(bound.invoke(ASK))
    monkeypatch.setattr(Mailbox, "read", late)
    assert args_of(joined(list(bound.stream(ASK)))) == expected
    output: Any = bound.stream_events(ASK, version="v3").output
    assert args_of(output) == expected


CUT = [CALL[:end] for end in range(CALL.index('{"city'), CALL.index("}}") + 1)]


@pytest.mark.parametrize("size", [1000, 1])
@pytest.mark.parametrize("reason", [FinishReason.TIMEOUT, FinishReason.ABORT, FinishReason.LENGTH])
def test_a_call_cut_anywhere_is_invalid_in_a_stream_too(
    told: Any, monkeypatch: pytest.MonkeyPatch, reason: FinishReason, size: int
) -> None:
    """LangChain closed what was open, and agents ran half a path or half a query."""
    model = told()
    escapes = [text.replace("Par", "\\u00e9\\\\\\n[{") for text in CUT]
    lists = [text.replace('"Par', '[{"a": [1, "') for text in CUT]
    for text in [*CUT, *escapes, *lists]:
        monkeypatch.setitem(globals(), "TOLD", deltas(f"So.\n{text}", size, reason))
        whole = joined(list(model.stream(ASK)))
        assert not whole.tool_calls, text
        assert [bad["name"] for bad in whole.invalid_tool_calls] == ["get_weather"]
        assert whole.response_metadata["finish_reason"] == reason.value
    first = f"{CALL}\n{CUT[-1]}"
    monkeypatch.setitem(globals(), "TOLD", deltas(first, size, reason))
    whole = joined(list(model.stream(ASK)))
    assert args_of(whole) == [{"city": "Paris"}]
    assert len(whole.invalid_tool_calls) == 1


def test_a_whole_call_stays_valid_where_the_answer_ends_late(
    told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "TOLD", deltas(CALL, 1, FinishReason.LENGTH))
    assert args_of(joined(list(told().stream(ASK)))) == [{"city": "Paris"}]


def test_what_timed_out_within_a_call_is_invalid_in_every_way_of_asking(
    make_chat: MakeChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the engine."""
    long = {"title": "write", "type": "object", "required": ["text"]}
    long["properties"] = {"text": {"type": "string", "minLength": 3000}}
    bound = make_chat(max_tokens=3500).bind_tools([long], tool_choice="write")
    let_time_pass(monkeypatch, steps=60)
    for message in (bound.invoke(ASK, timeout=900), joined(list(bound.stream(ASK, timeout=900)))):
        assert message.response_metadata["finish_reason"] == "timeout"
        assert not message.tool_calls
        assert [bad["name"] for bad in message.invalid_tool_calls] == ["write"]


def test_pieces_of_one_call_are_one_piece_of_a_chunk(demo_runtime: Any) -> None:
    """LangChain adds up chunks; two pieces within one would stay two calls."""
    head = ToolCallPiece(0, "f", '{"a": ')
    [chunk, _] = Chunks(demo_runtime).of(
        Delta(tool_calls=(head,), finish_reason=FinishReason.TIMEOUT)
    )
    [piece] = chunk.message.tool_call_chunks  # type: ignore[attr-defined]
    assert (piece["name"], piece["args"], piece["index"]) == ("f", '{"a": ]', 1)
