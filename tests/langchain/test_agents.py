"""LangChain's agents and LangGraph over ChatAquila2: whole loops, whatever the weights decide."""

from __future__ import annotations

import gc
import pickle
import shutil
import weakref
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_aquila2 import ChatAquila2, register, registration
from tests.langchain.support import MakeChat

pytest.importorskip("langchain.agents")

from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware, SummarizationMiddleware
from langchain.chat_models import init_chat_model
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition


class Report(BaseModel):
    """A report."""

    city: str
    degrees: int


@tool
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"{city}: 21 degrees"


class FirstCalls(ChatAquila2):
    """Calls a tool in the first step, and answers once there is a result.

    Which of both a model does is a matter of its weights; this pins it, so that the loop is tested.
    """

    def _ask(self, messages: Any, stop: Any, kwargs: Any) -> Any:
        done = isinstance(messages[-1], ToolMessage)
        if kwargs.get("tools"):
            kwargs = {**kwargs, "tool_choice": "none" if done else "any"}
            kwargs["parallel_tool_calls"] = False
        return super()._ask(messages, stop, kwargs)


@pytest.fixture
def chat(make_chat: MakeChat, spec: dict[str, Any]) -> ChatAquila2:
    make_chat().warmup()
    return FirstCalls(**spec, temperature=0, max_tokens=64)


def kinds(messages: list[Any]) -> list[str]:
    return [message.type for message in messages]


ASK = {"messages": [HumanMessage("How is the weather in Paris?")]}
LOOP = ["human", "ai", "tool", "ai"]


async def test_an_agent_loops_in_every_way_of_asking(chat: BaseChatModel) -> None:
    agent = create_agent(chat, [get_weather])
    told = agent.invoke(ASK)["messages"]
    assert kinds(told) == LOOP
    assert "21 degrees" in told[2].content
    assert told[2].tool_call_id == told[1].tool_calls[0]["id"]
    assert kinds((await agent.ainvoke(ASK))["messages"]) == LOOP
    chunks = [chunk for chunk, _ in agent.stream(ASK, stream_mode="messages")]
    assert len(chunks) > 5
    assert any(getattr(chunk, "tool_call_chunks", None) for chunk in chunks)
    steps = [step async for step in agent.astream(ASK, stream_mode="updates")]
    assert len(steps) == 3


async def test_an_agent_with_a_checkpointer_remembers_in_every_way_of_asking(
    chat: BaseChatModel,
) -> None:
    agent = create_agent(chat, [get_weather], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    another: Any = {"configurable": {"thread_id": "2"}}

    def more() -> Any:
        return {"messages": [HumanMessage("And in Rome?")]}

    assert kinds(agent.invoke(more(), config)["messages"]) == LOOP
    assert kinds((await agent.ainvoke(more(), config))["messages"]) == LOOP * 2
    assert len(list(agent.stream(more(), config, stream_mode="messages"))) > 5
    steps = [step async for step in agent.astream(more(), config, stream_mode="updates")]
    assert len(steps) == 3
    kept = agent.get_state(config).values["messages"]
    assert kinds(kept) == LOOP * 4
    assert kinds(agent.invoke(more(), another)["messages"]) == LOOP
    counts = [m.usage_metadata["input_tokens"] for m in kept if m.type == "ai"]
    # Every other step shows the tools too; among those that do, each turn sees more than the last.
    assert counts[::2] == sorted(set(counts[::2]))


def test_a_response_format_takes_the_provider_strategy(chat: BaseChatModel) -> None:
    """The profile says so; the schema holds beside the tools."""
    result = create_agent(chat, [get_weather], response_format=Report).invoke(ASK)
    assert isinstance(result["structured_response"], Report)
    assert kinds(result["messages"]) == LOOP
    alone = create_agent(chat, [], response_format=Report).invoke(ASK)
    assert isinstance(alone["structured_response"], Report)


def test_a_response_format_holds_in_a_loop_that_is_not_pinned(make_chat: MakeChat) -> None:
    limited = ModelCallLimitMiddleware(run_limit=3, exit_behavior="end")
    chat = make_chat(max_tokens=64)
    agent = create_agent(chat, [get_weather], response_format=Report, middleware=[limited])
    result = agent.invoke(ASK)
    for message in result["messages"]:
        assert not getattr(message, "invalid_tool_calls", None)
    assert isinstance(result.get("structured_response"), (Report, type(None)))


async def test_a_graph_with_a_checkpointer_remembers(chat: ChatAquila2) -> None:
    bound = chat.bind_tools([get_weather])
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [bound.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([get_weather]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    compiled = graph.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    assert kinds(compiled.invoke(ASK, config)["messages"]) == LOOP
    again = await compiled.ainvoke({"messages": [HumanMessage("And in Rome?")]}, config)
    assert kinds(again["messages"]) == LOOP * 2
    assert all(m.tool_calls for m in again["messages"][1::4] if isinstance(m, AIMessage))


def test_a_registered_name_makes_the_model(spec: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="provider"):
        init_chat_model("aquila2:nowhere")
    register()
    register()
    made = init_chat_model("aquila2:nowhere", temperature=0)
    assert isinstance(made, ChatAquila2)
    assert made.model == "nowhere"
    late = init_chat_model(configurable_fields=("model", "model_provider"))
    config: Any = {"configurable": {"model": spec["model"], "model_provider": "aquila2"}}
    answer = late.invoke("hi", config)
    assert answer.response_metadata["model_provider"] == "aquila2"


def test_a_configurable_model_made_by_name_is_loaded_once(demo_path: Any, tmp_path: Any) -> None:
    """LangChain makes a model for every call, and each loaded its weights again."""
    register()
    given: Any = {"device": "cpu", "template": "aquila-v1", "max_tokens": 1, "temperature": 0}
    for name in ("one", "two"):
        shutil.copytree(
            demo_path, tmp_path / name, ignore=shutil.ignore_patterns("*.py", "__pycache__")
        )
    one, two = (f"aquila2:{tmp_path / name}" for name in ("one", "two"))
    model = init_chat_model(one, configurable_fields=("temperature", "model"), **given)
    runtimes = set()
    for warmth in (0, 0.5, 0.5):
        model.invoke("hi", {"configurable": {"temperature": warmth}})
        runtimes.add(registration._kept[0].runtime())
    [runtime] = runtimes
    old = weakref.ref(runtime)
    del runtime, runtimes
    model.invoke("hi", {"configurable": {"model": two}})
    gc.collect()
    assert old() is None, "the weights of two models stayed"
    made = init_chat_model(two, **given)
    assert isinstance(made, ChatAquila2)
    with made:
        latest = made._lease.runtime()
    assert not latest.healthy, "the weights outlived the model that was closed"


def test_the_profile_says_what_holds_and_what_was_asked_for() -> None:
    profile = ChatAquila2(model="nowhere").profile
    assert profile is not None
    assert profile["structured_output"] and profile["tool_choice"]
    assert not profile["tool_calling"]
    assert "max_input_tokens" not in profile
    asked = ChatAquila2(model="nowhere", function_calling=True, max_model_len=512).profile
    assert asked is not None
    assert asked["tool_calling"]
    assert asked["max_input_tokens"] == 512


def test_the_profile_follows_the_fields_unless_the_caller_gave_one() -> None:
    """SummarizationMiddleware refused the copy whose length had been said."""
    model = ChatAquila2(model="nowhere")
    length = ConfigurableField(id="length")
    configured, _ = model.configurable_fields(max_model_len=length).prepare(
        {"configurable": {"length": 512}}
    )
    copied = model.model_copy(update={"max_model_len": 512, "function_calling": True})
    for made in (configured, copied):
        assert isinstance(made, ChatAquila2) and made.profile is not None
        assert made.profile["max_input_tokens"] == 512
        assert made.profile["tool_calling"] is made.function_calling
        SummarizationMiddleware(made, trigger=("fraction", 0.5))
    model.max_tokens, model.function_calling = 9, True
    assert model.profile is not None
    assert (model.profile["max_output_tokens"], model.profile["tool_calling"]) == (9, True)
    changed = pickle.loads(pickle.dumps(model))
    changed.profile["max_input_tokens"] = 100
    given = ChatAquila2(model="nowhere", profile={"max_input_tokens": 100})
    for own in (given, changed):
        own.max_tokens = 5
        for one in (own, own.model_copy(update={"max_model_len": 512})):
            assert one.profile is not None
            assert one.profile["max_input_tokens"] == 100
    assert given.profile == {"max_input_tokens": 100}
